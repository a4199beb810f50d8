"""The front of the sums and every method beside it; the curve of one loss against the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite, nan, sqrt
from typing import Any

import numpy as np
from scipy import stats

from lossweave.studies.report.curvature import corner_of
from lossweave.studies.report.many import pooled_sd
from lossweave.studies.runs.method import Method, Score
from lossweave.studies.runs.training import parsed_options

__all__ = ["SIDES", "Place", "WeightFindings", "Weighting", "find_weights", "ratio_of"]

#: Weightings that a front is made of, at least.
_ENOUGH = 5
#: What a place is beside the front, in words.
SIDES = {
    "beyond": "beyond it",
    "inside": "inside it",
    "on": "not told apart from it",
    "not told": "not told with one seed",
}
#: The two qualities of a method's trainings, by seed.
_BySeed = Mapping[int, tuple[float, float]]
#: Standard errors of a difference that two points have to be apart in both qualities.
_APART = 2.0


@dataclass(frozen=True)
class Place:
    """A method on the plane of the two qualities.

    Args:
        method: its label.
        seeds: how many.
        found: AP50 on the test split: what is found and named rightly, boxes being roughly right.
        exact: AP75 / AP50: which share of that has a good box; nan where nothing is found.
        where: 'inside' the front of the sums, 'beyond' it, 'on' it where neither is shown, 'not
            told' where nothing can be; '' for a sum.
        on_front: of a sum, whether no other one is better in both.
    """

    method: str
    seeds: int
    found: float
    exact: float
    where: str = ""
    on_front: bool = False


@dataclass(frozen=True)
class Weighting:
    """The sum alpha cls + (1 - alpha) loc, up to a factor.

    Args:
        ratio: b, loc's weight over cls's.
        scores: test AP by seed.
        val: the mean AP on the validation split, over the seeds that all weightings have.
        cls: likewise the classification loss as it was logged last; nan where none was.
        loc: likewise the localisation loss.
    """

    ratio: float
    scores: Mapping[int, float]
    val: float
    cls: float
    loc: float

    @property
    def alpha(self) -> float:
        """cls's part of the weights, 1 / (1 + b)."""
        return 1 / (1 + self.ratio)

    @property
    def mean(self) -> float:
        """The mean test AP."""
        return float(np.mean(list(self.scores.values())))


@dataclass(frozen=True)
class WeightFindings:
    """What the sums say.

    Args:
        places: all methods, those that find nothing last.
        sd_found: of a training's AP50 over seeds, pooled over methods; nan with one seed each.
        sd_exact: likewise of AP75 / AP50.
        weightings: the sums by their ratio, from the smallest.
        corner: the ratio at the corner of the curve of cls against loc; None without.
        sd: of a training's AP over seeds, pooled over all methods.
        shared: the seeds that all weightings have, or those of each where that is none.
    """

    places: tuple[Place, ...]
    sd_found: float
    sd_exact: float
    weightings: tuple[Weighting, ...]
    corner: float | None
    sd: float
    shared: tuple[int, ...] = ()

    def ends_apart(self, one: Place, other: Place) -> bool:
        """Whether one finds more and the other has better boxes, beyond the uncertainty of both.

        Args:
            one: the end that finds more.
            other: the end with the better boxes.
        """
        error = _APART * sqrt(1 / one.seeds + 1 / other.seeds)
        more, better = one.found - other.found, other.exact - one.exact
        return more > error * self.sd_found and better > error * self.sd_exact


def ratio_of(method: Method) -> float | None:
    """loc's weight over cls's of a sum of the two; None for another method.

    Example:
        >>> [ratio_of(Method.parse(m)) for m in ("Sum", "Sum weights=[1,10]", "DWA")]
        [1.0, 10.0, None]
    """
    if method.combiner != "Sum":
        return None
    weights = parsed_options(method.options).get("weights", [1, 1])
    if not isinstance(weights, list) or len(weights) != 2 or not weights[0]:
        return None
    return float(weights[1]) / float(weights[0])


def find_weights(scores: Sequence[Score]) -> WeightFindings | None:
    """What is to be said of the weights; None where too few weightings were tried.

    Args:
        scores: those that are compared, a method's at its rate.
    """
    by_method: dict[str, list[Score]] = {}
    for score in scores:
        seeds = {s.seed for s in by_method.get(score.method, [])}
        if score.seed not in seeds and "bbox_mAP_75" in score.details.get("metrics", {}):
            by_method.setdefault(score.method, []).append(score)
    ratios = {label: ratio_of(Method.parse(label)) for label in by_method}
    sums = {label: ratio for label, ratio in ratios.items() if ratio is not None}
    if len(sums) < _ENOUGH or 1.0 not in sums.values():
        return None
    qualities = {
        label: {s.seed: _qualities(s) for s in found} for label, found in by_method.items()
    }
    sd_found, sd_exact = (
        pooled_sd([[q[axis] for q in group.values()] for group in qualities.values()])[0]
        for axis in (0, 1)
    )
    places = [_place(label, list(found.values())) for label, found in qualities.items()]
    among = [place for place in places if place.method in sums]
    named = {place.method: _as_sum(place, among) for place in among}
    front = [label for label, place in named.items() if place.on_front]
    where = _where({m: q for m, q in qualities.items() if m not in sums},
                   [qualities[label] for label in front])  # fmt: skip
    judged = [
        named.get(place.method) or replace(place, where=where[place.method]) for place in places
    ]
    shared = set.intersection(*({s.seed for s in by_method[label]} for label in sums))
    weightings = sorted(
        (_weighting(ratio, by_method[label], shared) for label, ratio in sums.items()),
        key=lambda weighting: weighting.ratio,
    )
    place = corner_of([w.loc for w in weightings], [w.cls for w in weightings])
    return WeightFindings(
        places=tuple(sorted(judged, key=lambda place: (not isfinite(place.exact), -place.found))),
        sd_found=sd_found,
        sd_exact=sd_exact,
        weightings=tuple(weightings),
        corner=None if place is None else weightings[place].ratio,
        sd=pooled_sd([[s.test for s in found] for found in by_method.values()])[0],
        shared=tuple(sorted(shared)),
    )


def _qualities(score: Score) -> tuple[float, float]:
    metrics: Mapping[str, Any] = score.details["metrics"]
    found, good = metrics["bbox_mAP_50"], metrics["bbox_mAP_75"]
    return found, good / found if found > 0 else nan


def _place(label: str, qualities: Sequence[tuple[float, float]]) -> Place:
    found, exact = np.mean(np.array(qualities), axis=0)
    return Place(label, len(qualities), float(found), float(exact))


def _as_sum(place: Place, sums: Sequence[Place]) -> Place:
    mine = (place.found, place.exact)
    others = [(s.found, s.exact) for s in sums if (s.found, s.exact) != mine]
    worse = any(found >= mine[0] and exact >= mine[1] for found, exact in others)
    return replace(place, on_front=isfinite(place.exact) and not worse)


def _where(
    methods: Mapping[str, _BySeed], front: Sequence[_BySeed]
) -> dict[str, str]:
    """By method, its side of the front: Student's tests of differences that are paired by seed.

    A method is beyond (inside) where it is better (worse) than one sum of the front in both
    qualities. The spread of a difference is pooled over methods and sums, and the level of 0.05
    is shared by all of these tests. A method that finds nothing is inside.
    """
    finds = {m: own for m, own in methods.items() if all(isfinite(q[1]) for q in own.values())}
    gaps = {
        label: [_gap(own, other) for other in front if set(own) & set(other)]
        for label, own in finds.items()
    }
    every = [gap for found in gaps.values() for gap in found]
    found = [pooled_sd([gap[:, axis].tolist() for gap in every]) for axis in (0, 1)]
    told = all(isfinite(sd) for sd, _ in found)
    limits = [
        sd * stats.t.ppf(1 - 0.025 / len(every), df) if told else nan for sd, df in found
    ]

    def side(label: str) -> str:
        if label not in finds:
            return "inside"
        if not told or not gaps[label]:
            return "not told"
        leads = [gap.mean(axis=0) * sqrt(len(gap)) / limits for gap in gaps[label]]
        if any((lead > 1).all() for lead in leads):
            return "beyond"
        return "inside" if any((lead < -1).all() for lead in leads) else "on"

    return {label: side(label) for label in methods}


def _gap(one: _BySeed, other: _BySeed) -> np.ndarray:
    """The differences in both qualities over the seeds that both have."""
    return np.array([np.subtract(one[seed], other[seed]) for seed in sorted({*one} & {*other})])


def _weighting(ratio: float, scores: Sequence[Score], shared: set[int]) -> Weighting:
    among = [s for s in scores if not shared or s.seed in shared]
    known = [s.details.get("losses", {}) for s in among]
    losses = [one for one in known if {"cls", "loc"} <= set(one)]
    cls, loc = (
        float(np.mean([one[term] for one in losses])) if losses else nan for term in ("cls", "loc")
    )
    val = float(np.mean([s.val for s in among]))
    return Weighting(ratio, {s.seed: s.test for s in scores}, val, cls, loc)
