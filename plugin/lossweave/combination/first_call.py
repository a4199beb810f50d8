"""What can only be seen in the first training forward, before any update."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lossweave.backward import reach, refuse_hidden
from lossweave.combination.entries import sorted_into
from lossweave.combination.settling import SettledTerms
from lossweave.combination.step import OwnTotal
from lossweave.combiners import Combiner
from lossweave.errors import LossweaveError
from lossweave.progress import Progress
from lossweave.utils import distributed

__all__ = ["FirstCall", "own_total", "own_words", "refuse_own_total"]

#: Share of the losses by which one sum of them may differ from another, and that in half precision.
_ROUNDING, _HALF = 1e-5, 1e-2


@dataclass(frozen=True)
class FirstCall:
    """What is asked of a combination in its first training forward.

    Args:
        combiners: of the whole tree.
        extra: 'add' or 'error', for losses that no term claims.
        skips: whether updates may have to be skipped.
        leaves_state: whether learned state of another training is forgotten.
        hook_line: where the framework's hook is added and how.
        log: where remarks go.
        progress: where the training stands, where that is known.
        hooked: whether the framework's hook says so.
    """

    combiners: Sequence[Combiner]
    extra: str
    skips: bool
    leaves_state: bool
    hook_line: str
    log: Callable[[str], None]
    progress: Progress | None
    hooked: bool

    def check(self, settled: SettledTerms, entries: Mapping[str, Tensor]) -> None:
        """Settle the terms, and check all that can be checked now.

        Args:
            settled: whose terms they are.
            entries: the losses.

        Raises:
            LossweaveError: no losses, patterns that match nothing, losses that no term claims,
                a missing hook, a compiled graph that hides what the terms reach.
        """
        self.check_entries(settled, entries)
        if not self.hooked:
            self.check_hook()
        if any(combiner.inactive == "hold" for combiner in self.combiners):
            terms, _ = sorted_into(settled.terms, entries)
            refuse_hidden([reach([term]) for term in terms if term is not None])
        if settled.loaded:
            self.tell_loaded()

    def check_entries(self, settled: SettledTerms, entries: Mapping[str, Tensor]) -> None:
        """Settle the terms, and check them against the losses that there are, on any rank."""
        everywhere = [n for names in distributed.gather_objects(list(entries)) for n in names]
        everywhere = list(dict.fromkeys(everywhere))
        if not everywhere:
            raise LossweaveError(
                "the detector's training forward returned no entry with 'loss' in its name, "
                "so there is nothing to combine"
            )
        resumed = self.progress is not None and self.progress.iteration > 0
        device = next((entry.device for entry in entries.values()), torch.device("cpu"))
        settled.settle(everywhere, device, resumed, self.log)
        try:
            settled.terms.check(everywhere)
        except LossweaveError as error:
            # A resumed run was checked when it began; its first batch may lack a term.
            if not resumed:
                raise
            self.log(f"in the first iteration since resuming, {error}")
        unclaimed = settled.terms.assign(everywhere).extra
        if unclaimed and self.extra == "error":
            raise LossweaveError(f"no term claims the losses {list(unclaimed)} (extra='error')")

    def check_hook(self) -> None:
        """Say what lacks the framework's hook."""
        who = next(
            (type(c).__name__ for c in self.combiners if c.needs_hook),
            "on_nonfinite='skip'" if self.skips else "",
        )
        if who:
            raise LossweaveError(f"{who} needs the lossweave hook; add {self.hook_line}")
        if self.progress is None and any(c.learns or c.scheduled for c in self.combiners):
            self.log(
                "without the lossweave hook every backward counts as one optimizer "
                f"update, and resuming is not exact; add {self.hook_line}"
            )

    def tell_loaded(self) -> None:
        """Say that learned state came with the weights that a new training starts from."""
        learned = [combiner for combiner in self.combiners if combiner.state_dict()]
        if self.progress is None or self.progress.iteration > 0 or not learned:
            return
        if self.leaves_state:
            for combiner in learned:
                combiner.reset()
        names = ", ".join(type(combiner).__name__ for combiner in learned)
        what = (
            "is left out"
            if self.leaves_state
            else "is taken over; loaded_state='leave' starts it anew"
        )
        self.log(
            f"the checkpoint that this training starts from has learned state of {names}, which "
            f"{what}"
        )


def own_total(method: str, total: Any, entries: Mapping[str, Tensor]) -> OwnTotal:
    """What a detector's own method made of the losses, to be compared with their sum.

    Args:
        method: its name.
        total: what it returned.
        entries: the losses.
    """
    values = torch.stack([entry.detach().double() for entry in entries.values()])
    half = any(entry.element_size() < 4 for entry in entries.values())
    found = torch.as_tensor(total).detach().to(values)
    slack = values.abs().sum() * (_HALF if half else _ROUNDING)
    return OwnTotal(method, found.mean(), values.sum(), slack)


def own_words(own: OwnTotal | None) -> str:
    """What is to be said of a detector that does not optimise the sum of its losses; nothing where
    it does. Synchronises."""
    if own is None:
        return ""
    total, added, slack = torch.stack([own.total, own.added, own.slack]).tolist()
    if not math.isfinite(slack) or abs(total - added) <= slack:
        return ""
    return (
        f"{own.method} weights the losses by itself (it returns {total:g}, and their sum is "
        f"{added:g}), which a combination would drop; give these weights to the heads "
        "(loss_weight) or to the combiner, or take the plain Sum, which keeps them"
    )


def refuse_own_total(own: OwnTotal | None) -> None:
    """Refuse a detector that does not optimise the sum of its losses. Synchronises.

    Raises:
        LossweaveError: its own total is another.
    """
    if words := own_words(own):
        raise LossweaveError(words)
