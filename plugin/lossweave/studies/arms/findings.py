"""Results by their places: groups of seeds, their spread, and paired differences."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TypeVar

from lossweave.studies.arms.study import PLACES
from lossweave.studies.ledger.places import places_as_one
from lossweave.studies.ledger.result import Result
from lossweave.studies.report.paired import Spread, one_a_seed, spread

__all__ = ["Group", "Quantity", "apart", "best_by", "by_seed", "grouped", "over", "paired"]

#: An arm's results, by seed and by where they were trained: only those that share both are pairs.
#: Places at which the same trainings gave the same numbers are one.
Group = Mapping[tuple[int, str], Result]
Quantity = Callable[[Result], float]
_Key = TypeVar("_Key", bound=Hashable)


def grouped(results: Sequence[Result], *axes: str) -> dict[tuple, dict[tuple[int, str], Result]]:
    """Results by their places on some axes, in the order in which they come.

    Args:
        results: of arms.
        axes: that tell the groups apart.
    """
    found: dict[tuple, dict[tuple[int, str], Result]] = {}
    one = places_as_one(results)
    for result in results:
        where = tuple(result.details[PLACES][axis] for axis in axes)
        found.setdefault(where, {}).setdefault((result.seed, one[result.place]), result)
    return found


def best_by(results: Sequence[Result], key: Callable[[Result], _Key]) -> dict[_Key, Result]:
    """By key, the result with the best AP on the validation split; of equal ones the first.

    Args:
        results: of arms.
        key: what is chosen for.
    """
    best: dict[_Key, Result] = {}
    for result in results:
        if result.scores["val"] > best.setdefault(key(result), result).scores["val"]:
            best[key(result)] = result
    return best


def by_seed(group: Group, quantity: Quantity) -> list[float]:
    """A quantity of an arm, one number a seed."""
    return one_a_seed({key: quantity(result) for key, result in group.items()})


def over(group: Group, quantity: Quantity) -> Spread:
    """A quantity over an arm's seeds."""
    return spread(by_seed(group, quantity))


def paired(one: Group, other: Group, quantity: Quantity) -> dict[tuple[int, str], float]:
    """One arm minus another one, by seed and place."""
    return {
        key: quantity(result) - quantity(other[key])
        for key, result in one.items()
        if key in other
    }


def apart(one: Group, other: Group, quantity: Quantity) -> Spread:
    """One arm minus another one, paired, over the seeds that both have at one place."""
    return spread(one_a_seed(paired(one, other, quantity)))
