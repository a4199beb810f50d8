"""What a handful of paired seeds can tell: mean, standard deviation, Student's interval."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite, nan

import numpy as np
from scipy import stats

__all__ = ["Spread", "differences", "one_a_seed", "paired_interval", "spread"]


def paired_interval(differences: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Mean and half-width of Student's interval for paired differences.

    Args:
        differences: one per seed.
        level: the interval's coverage.

    Returns:
        The mean, and the half-width (infinite for a single seed); nan without any seed.

    Example:
        >>> mean, half = paired_interval([0.01, 0.02, 0.03])
        >>> round(mean, 3), round(half, 4)
        (0.02, 0.0248)
    """
    values = np.asarray(differences, dtype=float)
    if len(values) < 2:
        return (float(values.mean()) if len(values) else nan), inf
    quantile = stats.t.ppf(0.5 + level / 2, len(values) - 1)
    return float(values.mean()), float(quantile * values.std(ddof=1) / np.sqrt(len(values)))


@dataclass(frozen=True)
class Spread:
    """Numbers over the seeds, or their paired differences.

    Args:
        count: how many.
        mean: their mean; nan without any.
        sd: their standard deviation (n - 1 below); nan for fewer than two.
        half_width: of Student's 95 % interval of the mean; inf for a single one.
        low: the smallest.
        high: the largest.
    """

    count: int
    mean: float
    sd: float
    half_width: float
    low: float
    high: float

    @property
    def sign(self) -> int:
        """1 or -1 where the interval leaves out zero, else 0.

        Example:
            >>> spread([0.01, 0.02, 0.03]).sign, spread([-0.5, -0.5, -0.6]).sign
            (0, -1)
        """
        return int(np.sign(self.mean)) if abs(self.mean) > self.half_width else 0

    def text(self, places: int = 3, signed: bool = True) -> str:
        """``mean ± half-width``; '-' without a number.

        Example:
            >>> spread([0.01, 0.02, 0.03]).text(), spread([0.5]).text(), spread([]).text()
            ('+0.020 ± 0.025', '+0.500 (one seed)', '-')
        """
        if not self.count:
            return "-"
        mean = f"{self.mean:{'+' if signed else ''}.{places}f}"
        if not isfinite(self.half_width):
            return f"{mean} (one seed)"
        return f"{mean} ± {self.half_width:.{places}f}"


def spread(values: Sequence[float]) -> Spread:
    """Count, mean, standard deviation, interval and range of some numbers; nans are left out.

    Example:
        >>> found = spread([1.0, 2.0, 3.0])
        >>> found.mean, found.sd, found.low, found.high
        (2.0, 1.0, 1.0, 3.0)
    """
    kept = [float(value) for value in values if isfinite(value)]
    if not kept:
        return Spread(0, nan, nan, inf, nan, nan)
    mean, half = paired_interval(kept)
    sd = float(np.std(kept, ddof=1)) if len(kept) > 1 else nan
    return Spread(len(kept), mean, sd, half, min(kept), max(kept))


def one_a_seed(values: Mapping[tuple[int, str], float]) -> list[float]:
    """One number a seed, so that a training that was repeated elsewhere weighs no more.

    Args:
        values: by seed and by where it was trained; nans are left out.

    Returns:
        The mean of each seed's numbers, in the order in which the seeds come.

    Example:
        >>> one_a_seed({(0, "before"): 1.0, (0, "after"): 3.0, (1, "after"): 5.0})
        [2.0, 5.0]
    """
    by_seed: dict[int, list[float]] = {}
    for (seed, _), value in values.items():
        if isfinite(value):
            by_seed.setdefault(seed, []).append(float(value))
    return [float(np.mean(found)) for found in by_seed.values()]


def differences(a: Mapping[int, float], b: Mapping[int, float]) -> dict[int, float]:
    """a - b for the seeds that both have, in order.

    Example:
        >>> differences({0: 1.5, 1: 2.0}, {1: 0.5, 2: 7.0})
        {1: 1.5}
    """
    return {seed: a[seed] - b[seed] for seed in sorted(set(a) & set(b))}
