"""Terms that take no part in an update: what is left to them, and what only they reach."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lossweave.backward import reached_leaves
from lossweave.utils import distributed

__all__ = ["Frozen", "Held", "Parts", "parts"]


class Parts(NamedTuple):
    """What stays in the graph of a combination of values.

    Args:
        used: the positions of the terms that stay attached.
        watched: whether inactive terms are among them whose parameters are to be held.
    """

    used: list[int]
    watched: bool


def parts(
    terms: Sequence[Tensor | None],
    extras: Sequence[Tensor],
    active: Sequence[bool],
    holds: bool,
    accumulates: bool,
) -> Parts:
    """Which terms stay attached.

    DDP waits for every parameter, so there inactive terms stay, with weight 0, as they do where
    nothing else is left to run a backward through.

    Args:
        terms: attached scalars; None where a term is absent.
        extras: the losses that belong to no term.
        active: which terms take part.
        holds: whether inactive terms leave their parameters without a gradient.
        accumulates: whether an update has several iterations.
    """
    held = holds and not all(active)
    trained = [x for x, a in zip(terms, active, strict=True) if a and x is not None]
    idle = held and not any(x.requires_grad for x in (*trained, *extras))
    everything = not held or distributed.world_size() > 1 or idle
    used = [k for k, x in enumerate(terms) if x is not None and (active[k] or everything)]
    return Parts(used, held and (everything or accumulates))


class Held:
    """The parameters that only inactive terms reach in an update."""

    def __init__(self) -> None:
        self._reached: tuple[set[int], set[int]] = (set(), set())

    def forget(self) -> None:
        """Begin another update."""
        self._reached = (set(), set())

    def note(
        self, terms: Sequence[Tensor | None], active: Sequence[bool], extras: Sequence[Tensor]
    ) -> None:
        """Take note of what one forward's terms reach."""
        on = [x for x, a in zip(terms, active, strict=True) if x is not None and a]
        off = [x for x, a in zip(terms, active, strict=True) if x is not None and not a]
        self._reached[0].update(id(p) for p in reached_leaves([*on, *extras]))
        self._reached[1].update(id(p) for p in reached_leaves(off))

    def among(self, parameters: Iterable[Tensor]) -> list[Tensor]:
        """Those that only inactive terms reach, on any rank. A collective where there are several.

        Args:
            parameters: the model's, in an order that all ranks share.
        """
        parameters = [p for p in parameters if p.requires_grad]
        if distributed.world_size() == 1:
            on, off = self._reached
            return [p for p in parameters if id(p) in off and id(p) not in on]
        if not parameters:
            return []
        flags = [[float(id(p) in ids) for p in parameters] for ids in self._reached]
        found = distributed.sum_(torch.tensor(flags, device=parameters[0].device)) > 0
        only_inactive = (found[1] & ~found[0]).tolist()
        return [p for p, held in zip(parameters, only_inactive, strict=True) if held]


class Frozen:
    """The terms that need no gradient, each told once."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def tell(
        self,
        terms: Sequence[Tensor | None],
        names: Sequence[str],
        label: str,
        log: Callable[[str], None],
    ) -> None:
        """Say of which terms nothing can be trained.

        Args:
            terms: attached scalars; None where a term is absent.
            names: theirs.
            label: the combiner's name.
            log: where it is said.
        """
        for term, name in zip(terms, names, strict=True):
            if term is not None and not term.requires_grad and name not in self._told:
                self._told.add(name)
                log(
                    f"the term {name!r} needs no gradient (what it reaches is frozen): it counts "
                    f"in what {label} makes of the losses and trains nothing, so an update in "
                    "which it has all the weight trains nothing at all"
                )
