"""From which scale on a loss's weight matters, computed once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import exp, inf, isnan, log, nan, sqrt

import numpy as np
from scipy import stats

from lossweave.studies.arms.findings import Group, apart, by_seed, grouped
from lossweave.studies.ledger.result import Result
from lossweave.studies.report.many import pooled_sd
from lossweave.studies.report.paired import Spread
from lossweave.studies.scale.study import best_factors

__all__ = ["CLEAR_OF_ONE", "Curve", "Scale", "ScaleFindings", "Tuned", "find_scale"]

#: Standard errors of a difference from which on it is clear.
_CLEAR = 2.0
#: Where every arm has one seed: the difference in AP from which on it counts as clear.
CLEAR_OF_ONE = 0.03


@dataclass(frozen=True)
class Scale:
    """The sum with loc b times as heavy as cls.

    Args:
        ratio: b.
        scores: test AP, a number per training; 0 where it diverged.
        share: of b x loc in the weighted sum at the end of training; nan where it diverged.
        diverged: how many of the trainings.
    """

    ratio: float
    scores: tuple[float, ...]
    share: float
    diverged: int = 0

    @property
    def mean(self) -> float:
        """The mean test AP."""
        return float(np.mean(self.scores))


@dataclass(frozen=True)
class Tuned:
    """A ratio at which the rate was chosen anew.

    Args:
        ratio: b.
        factor: of the rate, the best on the validation split with the first seed.
        tried: AP on the validation split there, by factor.
        scores: test AP at that factor.
        gain: minus that at the factor 1, paired by seed and place.
        beside_one: minus that at b = 1, at the factor chosen there, likewise; empty where none
            was chosen there.
        sd: of a training's AP over seeds, pooled over the curve; nan with one seed.
        df: its degrees of freedom.
    """

    ratio: float
    factor: float
    tried: Mapping[float, float]
    scores: tuple[float, ...]
    gain: Spread
    beside_one: Spread
    sd: float
    df: int

    def half_width(self, difference: Spread) -> float:
        """Of the 95 % interval of one of these differences, by the pooled spread.

        That of a paired difference is at most sqrt(2) times that of a training.

        Args:
            difference: of them.
        """
        if isnan(self.sd) or not difference.count:
            return inf
        return float(stats.t.ppf(0.975, self.df) * self.sd * sqrt(2 / difference.count))

    def text(self, difference: Spread) -> str:
        """A difference with its interval."""
        half = self.half_width(difference)
        if half == inf:
            return difference.text()
        return f"{difference.mean:+.3f} ± {half:.3f}"

    @property
    def takes_back(self) -> bool:
        """Whether the rate chosen anew raises AP, beyond the interval."""
        return self.gain.mean > self.half_width(self.gain)


@dataclass(frozen=True)
class Curve:
    """AP over b, under one optimizer and clipping.

    Args:
        optimizer: its name.
        clip: 'on' or 'off'.
        rate: the learning rate.
        scales: from the smallest b.
        tuned: where the rate was chosen anew.
        sd: of a training's AP over seeds, pooled over what did not diverge; nan with one seed.
    """

    optimizer: str
    clip: str
    rate: float
    scales: tuple[Scale, ...]
    tuned: tuple[Tuned, ...]
    sd: float

    @property
    def clipping(self) -> str:
        """Whether the gradient is clipped, in words."""
        return "clipped" if self.clip == "on" else "not clipped"

    @property
    def name(self) -> str:
        """For a legend."""
        return f"{self.optimizer}, {self.clipping}"

    @property
    def one(self) -> Scale:
        """That at b = 1."""
        return next(s for s in self.scales if s.ratio == 1)

    @property
    def at_one(self) -> float:
        """The mean test AP at b = 1."""
        return self.one.mean

    def level(self) -> tuple[float, float]:
        """The smallest and the largest b up to which no AP is clearly below that at 1."""
        one = self.one
        fine = [
            s.ratio == 1 or s.mean >= one.mean - _clear(self.sd, one, s) for s in self.scales
        ]
        low = high = self.scales.index(one)
        while low > 0 and fine[low - 1]:
            low -= 1
        while high < len(fine) - 1 and fine[high + 1]:
            high += 1
        return self.scales[low].ratio, self.scales[high].ratio

    def main_from(self) -> float | None:
        """The smallest b from which on b x loc is more than half of the sum; None without."""
        return next((s.ratio for s in self.scales if s.share > 0.5), None)

    def half_at(self) -> float | None:
        """The b at which b x loc is half of the sum, between two that were tried; None without.

        Along a straight line of the logit of the share over the logarithm of b.
        """
        known = [s for s in self.scales if 0 < s.share < 1]
        for below, above in pairwise(known):
            if below.share <= 0.5 < above.share:
                low, high = (log(s.share / (1 - s.share)) for s in (below, above))
                part = -low / (high - low)
                return exp(log(below.ratio) + part * log(above.ratio / below.ratio))
        return None


@dataclass(frozen=True)
class ScaleFindings:
    """What the trainings say.

    Args:
        curves: by optimizer and clipping.
    """

    curves: tuple[Curve, ...]

    @property
    def dead(self) -> tuple[Curve, ...]:
        """The curves that learn next to nothing at b = 1: less than a quarter of the best one."""
        best = max((curve.at_one for curve in self.curves), default=0.0)
        return tuple(curve for curve in self.curves if curve.at_one < best / 4)


def find_scale(results: Sequence[Result]) -> ScaleFindings:
    """What the trainings of a ledger say; the first seed's choose the rates."""
    groups: dict[tuple, Group] = {**grouped(results, "optimizer", "clip", "b", "factor")}
    factors = best_factors([r for r in results if r.seed == results[0].seed])
    curves = [
        _curve(groups, factors, *curve)
        for curve in dict.fromkeys((optimizer, clip) for optimizer, clip, _, _ in groups)
    ]
    return ScaleFindings(tuple(c for c in curves if c is not None))


def _curve(
    groups: Mapping[tuple, Group],
    factors: Mapping[tuple[str, str, float], float],
    optimizer: str,
    clip: str,
) -> Curve | None:
    own = {(b, f): g for (o, c, b, f), g in groups.items() if (o, c) == (optimizer, clip)}
    base = {b: group for (b, factor), group in sorted(own.items()) if factor == 1}
    if 1.0 not in base:
        return None
    sd, df = pooled_sd([by_seed(_ended(group), _ap) for group in own.values()])
    at_one = own[1.0, factors.get((optimizer, clip, 1.0), 1.0)]
    tried_at_one = sum(b == 1 for b, _ in own) > 1
    tuned = []
    for ratio, group in base.items():
        tried = {f: next(iter(g.values())).scores["val"] for (b, f), g in own.items() if b == ratio}
        if len(tried) > 1:
            factor = factors[optimizer, clip, ratio]
            best = own[ratio, factor]
            scores = tuple(map(_ap, best.values()))
            gain = apart(best, group, _ap)
            beside = apart(best, at_one if tried_at_one and ratio != 1 else {}, _ap)
            tuned.append(
                Tuned(ratio, factor, dict(sorted(tried.items())), scores, gain, beside, sd, df)
            )
    return Curve(
        optimizer=optimizer,
        clip=clip,
        rate=float(next(iter(base[1.0].values())).rate or nan),
        scales=tuple(_scale(ratio, group) for ratio, group in base.items()),
        tuned=tuple(tuned),
        sd=sd,
    )


def _ended(group: Group) -> Group:
    return {key: result for key, result in group.items() if "diverged" not in result.details}


def _scale(ratio: float, group: Group) -> Scale:
    shares = []
    for result in group.values():
        logged = result.details.get("logged", {})
        if {"loss_cls", "loss_bbox"} <= set(logged):
            weighted = ratio * logged["loss_bbox"]
            shares.append(weighted / (logged["loss_cls"] + weighted))
    return Scale(
        ratio=ratio,
        scores=tuple(map(_ap, group.values())),
        share=float(np.mean(shares)) if shares else nan,
        diverged=sum("diverged" in result.details for result in group.values()),
    )


def _ap(result: Result) -> float:
    return result.scores["test"]


def _clear(sd: float, one: Scale, other: Scale) -> float:
    if isnan(sd):
        return CLEAR_OF_ONE
    return _CLEAR * sd * sqrt(1 / len(one.scores) + 1 / len(other.scores))
