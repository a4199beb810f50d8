"""Many methods against one: one spread for all, Holm's correction, the smallest effect."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite, isnan, nan, sqrt
from typing import TypeVar

import numpy as np
from scipy import stats

__all__ = ["Many", "against_one", "holm", "pooled_sd", "smallest_effect"]

_Test = TypeVar("_Test", bound=Hashable)


@dataclass(frozen=True)
class Many:
    """What paired differences of many methods say together.

    Args:
        sd: of a difference, pooled over the methods; nan where none has two seeds.
        df: its degrees of freedom.
        half_widths: by method, of the 95 % interval of the mean difference.
        p: by method, the probability of so large a mean without any effect, corrected for the
            number of methods; nan where there is no pair.
        pairs: that a method has, in the median.
    """

    sd: float
    df: int
    half_widths: dict[str, float]
    p: dict[str, float]
    pairs: int

    @property
    def smallest(self) -> float:
        """What a method with that many pairs shows with a probability of 0.8."""
        tested = sum(not isnan(p) for p in self.p.values())
        return smallest_effect(self.sd, self.pairs, tested, self.df)

    def told(self, differences: Mapping[str, Sequence[float]], sign: int) -> list[str]:
        """The methods whose difference has this sign after the correction, at 0.05."""
        return [m for m, p in self.p.items() if p < 0.05 and np.mean(differences[m]) * sign > 0]


def against_one(differences: Mapping[str, Sequence[float]]) -> Many:
    """Student's tests of paired differences, with one spread for all methods.

    The spread of a difference is pooled: s^2 = sum_m sum_i (d_mi - mean_m)^2 / sum_m (n_m - 1).
    A handful of seeds tells little of one method's own spread; of some forty methods' together it
    tells enough. A method whose scores scatter more than the others' makes all intervals wider.

    Args:
        differences: by method, one per seed that it shares with the one.

    Example:
        >>> found = against_one({"A": [0.1, 0.1, 0.1], "B": [0.01, -0.01, 0.0], "C": [0.002]})
        >>> round(found.sd, 4), found.df, [round(p, 3) for p in found.p.values()]
        (0.0071, 4, [0.0, 1.0, 1.0])
    """
    sd, df = pooled_sd(list(differences.values()))
    quantile = float(stats.t.ppf(0.975, df)) if df else inf
    half, raw = {}, {}
    for method, found in differences.items():
        error = sd / sqrt(len(found)) if found else nan
        half[method] = inf if isnan(error) else quantile * error
        raw[method] = _p(float(np.mean(found)), error, df) if found else nan
    counts = [len(found) for found in differences.values() if found]
    pairs = int(np.median(counts)) if counts else 0
    return Many(sd, df, half, holm(raw), pairs)


def pooled_sd(groups: Sequence[Sequence[float]]) -> tuple[float, int]:
    """One standard deviation within groups, and its degrees of freedom.

    Args:
        groups: numbers that share a mean; what is not finite is left out.

    Returns:
        nan and 0 where no group has two numbers.

    Example:
        >>> pooled_sd([[1.0, 3.0], [10.0, 10.0], [7.0]])
        (1.0, 2)
    """
    finite = [np.array([v for v in group if isfinite(v)], dtype=float) for group in groups]
    several = [group for group in finite if len(group) > 1]
    df = sum(len(group) - 1 for group in several)
    squares = sum(float(((group - group.mean()) ** 2).sum()) for group in several)
    return (sqrt(squares / df) if df else nan), df


def _p(mean: float, error: float, df: int) -> float:
    if isnan(error):
        return nan
    if error == 0:
        return float(mean == 0)
    return float(2 * stats.t.sf(abs(mean) / error, df))


def holm(raw: Mapping[_Test, float]) -> dict[_Test, float]:
    """Probabilities, corrected for their number after Holm; nan, where nothing was tested, stays.

    Args:
        raw: by test.

    Example:
        >>> holm({"a": 0.01, "b": 0.04, "c": float("nan")})
        {'a': 0.02, 'b': 0.04, 'c': nan}
    """
    from statsmodels.stats.multitest import multipletests

    tested = [test for test, p in raw.items() if not isnan(p)]
    if not tested:
        return dict(raw)
    corrected = multipletests([raw[test] for test in tested], method="holm")[1]
    return {**raw, **{test: float(p) for test, p in zip(tested, corrected, strict=True)}}


def smallest_effect(sd: float, pairs: int, methods: int, df: int, power: float = 0.8) -> float:
    """The difference that a design shows with some probability.

    Where every method is tested at 0.05 / methods, which is Holm's first step and so the
    hardest. The power is that of Student's test with ``df`` degrees of freedom for the spread.

    Args:
        sd: of a paired difference.
        pairs: of every method.
        methods: that are tested.
        df: of the spread.
        power: the probability.

    Example:
        >>> round(smallest_effect(0.01, pairs=8, methods=1, df=7), 4)
        0.0116
    """
    if isnan(sd) or pairs < 1 or df < 1 or methods < 1:
        return nan
    from statsmodels.stats.power import TTestPower

    # Student's test of n pairs has n - 1 degrees of freedom; df is given here instead.
    effect = TTestPower().solve_power(
        nobs=df + 1, alpha=0.05 / methods, power=power, alternative="two-sided"
    )
    return float(effect) * sqrt((df + 1) / pairs) * sd
