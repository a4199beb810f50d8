"""Terms that take turns."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from torch import Tensor

from lossweave.combiners._preference import refused
from lossweave.combiners.base import Combined, Combiner
from lossweave.combiners.registry import register_combiner
from lossweave.errors import LossweaveError
from lossweave.progress import Progress

__all__ = ["Alternating", "turn_at"]


def turn_at(position: int, lengths: Sequence[int]) -> int:
    """Which turn the given position falls into, the turns repeating without end.

    Args:
        position: count of updates (or epochs) so far.
        lengths: length of each turn in the same unit.

    Example:
        >>> [turn_at(position, [2, 1]) for position in range(6)]
        [0, 0, 1, 0, 0, 1]
    """
    rest = position % sum(lengths)
    for turn, length in enumerate(lengths):
        if rest < length:
            return turn
        rest -= length
    raise AssertionError("unreachable: the rest is smaller than the sum of the lengths")


@register_combiner
class Alternating(Combiner):
    r"""Terms take turns: in each optimizer update only the active terms are summed.

    :math:`\sum_{k \in A(t)} L_k`, where the turn A(t) follows from the count of optimizer
    UPDATES (or of epochs), so gradient accumulation does not blend the turns.

    What becomes of parameters that only inactive terms reach:

    - ``hold``: their ``.grad`` is None when the optimizer steps, so neither momentum nor
      weight decay moves them. Under DDP this costs one small reduction per update.
    - ``zero``: their gradient is 0, so momentum and weight decay go on.

    Edge cases: linear in the active terms, so one at 0 or below contributes as it is. An
    inactive term contributes neither value nor gradient, whatever its value (under DDP and
    with ``zero`` it stays attached with weight 0, so a non-finite one still spoils the
    gradient there: ``on_nonfinite`` looks at inactive terms, too). An absent active term
    contributes nothing, so if it is the only one, the update has no gradient from the terms.

    Args:
        schedule: the turns in order, ``{'cls': 1, 'loc': 1}``, or for turns of several terms
            ``[(['cls', 'loc'], 10), ('loc', 1)]``; None means each term in turn for 1.
            A term that no turn names is never trained.
        unit: what the lengths count, 'update' or 'epoch'.
        inactive: 'hold' or 'zero', as above.

    Raises:
        LossweaveError: an unknown term, an empty schedule, a length below 1, another word for
            ``unit`` or ``inactive``; in training, epochs where their length is not known.

    Example:
        >>> import torch
        >>> combiner = Alternating(schedule={"cls": 1, "loc": 1})
        >>> combiner.bind(("cls", "loc"))
        >>> combiner.active()
        (True, False)
        >>> combiner.combine(torch.tensor([1.0, 2.0]), torch.tensor([True, True])).value
        tensor(1.)
    """

    preference = refused("terms take turns; give their lengths, schedule={'cls': 2, 'loc': 1}")

    linear: ClassVar[bool] = True
    scheduled: ClassVar[bool] = True
    turn_weights: Tensor

    def __init__(
        self,
        schedule: dict[str, int] | Sequence[Any] | None = None,
        unit: Literal["update", "epoch"] = "update",
        inactive: Literal["hold", "zero"] = "hold",
    ) -> None:
        super().__init__()
        self.require("unit", unit, unit in ("update", "epoch"), "'update' or 'epoch'")
        self.require("inactive", inactive, inactive in ("hold", "zero"), "'hold' or 'zero'")
        self.schedule, self.unit, self.inactive = schedule, unit, inactive
        self.turns = None if schedule is None else _turns(schedule)
        self._active: list[tuple[bool, ...]] = []
        self._lengths: list[int] = []

    @property
    def needs_hook(self) -> bool:
        return True

    def bind(self, terms: Sequence[str]) -> None:
        super().bind(terms)
        turns = self.turns or [((term,), 1) for term in self.terms]
        for names, _ in turns:
            for name in names:
                self.index_of(name, "schedule")
        self._active = [tuple(term in names for term in self.terms) for names, _ in turns]
        self._lengths = [length for _, length in turns]
        self.constant("turn_weights", [[float(on) for on in turn] for turn in self._active])

    def begin(self, progress: Progress) -> None:
        super().begin(progress)
        if self.unit == "epoch":
            self.require_epochs("unit", "unit='update'")

    def active(self) -> tuple[bool, ...]:
        return self._active[self._turn()]

    def combine(self, losses: Tensor, present: Tensor) -> Combined:
        weights = self.turn_weights[self._turn()].to(losses.dtype).masked_fill(~present, 0)
        # An inactive term's value must not enter, not even as 0 * inf.
        return Combined(losses.masked_fill(weights == 0, 0).sum(), weights)

    def _turn(self) -> int:
        at = self.progress.update if self.unit == "update" else self.progress.epoch
        return turn_at(at, self._lengths)


def _turns(schedule: Any) -> list[tuple[tuple[str, ...], int]]:
    pairs = list(schedule.items()) if isinstance(schedule, Mapping) else list(schedule)
    turns = []
    for pair in pairs:
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise LossweaveError(
                f"Alternating: schedule should be {{'cls': 1, 'loc': 1}} or a list of "
                f"(terms, length), but holds {pair!r}"
            )
        names, length = pair
        names = (names,) if isinstance(names, str) else names
        named = isinstance(names, (list, tuple)) and len(names) > 0
        if not named or isinstance(length, bool) or not isinstance(length, int) or length < 1:
            raise LossweaveError(
                f"Alternating: a turn needs a term and a whole length of at least 1, not {pair!r}"
            )
        turns.append((tuple(names), length))
    if not turns:
        raise LossweaveError("Alternating: schedule is empty")
    return turns
