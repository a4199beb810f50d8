"""Results by their places: groups of seeds, their spread, and paired differences."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from lossweave.studies.arms.study import PLACES
from lossweave.studies.ledger.result import Result
from lossweave.studies.report.paired import Spread, spread

__all__ = ["Group", "Quantity", "apart", "grouped", "over", "paired"]

#: An arm's results, by seed and by where they were trained: only those that share both are pairs.
Group = Mapping[tuple[int, str], Result]
Quantity = Callable[[Result], float]


def grouped(results: Sequence[Result], *axes: str) -> dict[tuple, dict[tuple[int, str], Result]]:
    """Results by their places on some axes, in the order in which they come.

    Args:
        results: of arms.
        axes: that tell the groups apart.
    """
    found: dict[tuple, dict[tuple[int, str], Result]] = {}
    for result in results:
        where = tuple(result.details[PLACES][axis] for axis in axes)
        found.setdefault(where, {}).setdefault((result.seed, result.place), result)
    return found


def over(group: Group, quantity: Quantity) -> Spread:
    """A quantity over an arm's seeds."""
    return spread([quantity(result) for result in group.values()])


def paired(one: Group, other: Group, quantity: Quantity) -> dict[tuple[int, str], float]:
    """One arm minus another one, by seed and place."""
    return {
        key: quantity(result) - quantity(other[key])
        for key, result in one.items()
        if key in other
    }


def apart(one: Group, other: Group, quantity: Quantity) -> Spread:
    """One arm minus another one, paired, over the seeds that both have at one place."""
    return spread(list(paired(one, other, quantity).values()))
