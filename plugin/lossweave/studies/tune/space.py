"""What is searched: ratios of the terms' weights, and the learning rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, log2

from lossweave.errors import LossweaveError

__all__ = ["RATE_NAME", "Point", "Space", "weights_of"]

#: The learning rate's name among a trial's parameters.
RATE_NAME = "log2_rate"
_DIGITS = 6


def weights_of(ratios: Sequence[float], start: Sequence[float]) -> tuple[float, ...]:
    r"""Weights from their log-ratios, with the sum held.

    .. math:: w_k = s_k \, K \frac{2^{r_k}}{\sum_j 2^{r_j}}, \qquad r_K = 0,

    so that the mean of :math:`w_k / s_k` is 1 whatever the ratios: where the start balances the
    terms, the loss and its gradient keep their size, and neither ``clip_grad`` nor Adam's epsilon
    answers a ratio in the place of the weights.

    Args:
        ratios: :math:`r_1 \dots r_{K-1}`, as powers of 2, of each term to the last one.
        start: :math:`s_1 \dots s_K`, the weights at which all ratios are 0.

    Example:
        >>> weights_of([1.0], [1.0, 1.0]), weights_of([0.0], [3.0, 1.0])
        ((1.333333, 0.666667), (3.0, 1.0))
    """
    powers = [2.0**r for r in (*ratios, 0.0)]
    whole = sum(powers)
    return tuple(
        round(s * len(powers) * p / whole, _DIGITS) for s, p in zip(start, powers, strict=True)
    )


@dataclass(frozen=True)
class Point:
    """Weights and a rate that a training is made with.

    Args:
        ratios: the log-ratios to the last term, as powers of 2.
        weights: a weight a term.
        rate: the learning rate.
    """

    ratios: tuple[float, ...]
    weights: tuple[float, ...]
    rate: float

    @property
    def method(self) -> str:
        """The sum of these weights, as it is typed.

        Example:
            >>> Point((0.0,), (1.0, 0.5), 0.1).method
            'Sum weights=[1,0.5]'
        """
        return f"Sum weights=[{','.join(f'{w:.{_DIGITS + 1}g}' for w in self.weights)}]"


@dataclass(frozen=True)
class Space:
    """The points that are searched.

    Args:
        terms: the terms' names.
        start: the weights at which all ratios are 0.
        rate: the config's learning rate.
        octaves: how far a ratio goes, each way, in powers of 2; 0 leaves the weights.
        rate_octaves: how far the rate goes, below and above the config's.
        steps: of the grid, in powers of 2; None where everything between is searched, too.

    Raises:
        LossweaveError: fewer than two terms, or a range that is none.
    """

    terms: tuple[str, ...]
    start: tuple[float, ...]
    rate: float
    octaves: float = 3.0
    rate_octaves: tuple[float, float] = (-1.0, 2.0)
    steps: float | None = None

    def __post_init__(self) -> None:
        if len(self.terms) < 2:
            raise LossweaveError(f"terms {', '.join(self.terms)}: one term has no ratio to tune")
        usable = all(isfinite(s) and s > 0 for s in self.start)
        if len(self.start) != len(self.terms) or not usable:
            raise LossweaveError(
                f"starting weights {list(self.start)} should be a number above 0 for each of "
                f"{', '.join(self.terms)}"
            )
        if not (isfinite(self.rate) and self.rate > 0):
            raise LossweaveError(f"the learning rate {self.rate!r} is not above 0")

    @property
    def names(self) -> tuple[str, ...]:
        """The names of a trial's parameters."""
        ratios = [f"log2_{name}_to_{self.terms[-1]}" for name in self.terms[:-1]]
        rate = [RATE_NAME] if self.rate_octaves[0] < self.rate_octaves[1] else []
        return (*(ratios if self.octaves else ()), *rate)

    def bounds(self, name: str) -> tuple[float, float]:
        """Where a parameter begins and ends."""
        return self.rate_octaves if name == RATE_NAME else (-self.octaves, self.octaves)

    def point(self, params: Mapping[str, float]) -> Point:
        """The point that a trial's parameters mean; what is not searched is the start's.

        Example:
            >>> space = Space(("cls", "loc"), (1.0, 1.0), 0.002)
            >>> space.point({"log2_cls_to_loc": -1.0, "log2_rate": 1.0})
            Point(ratios=(-1.0,), weights=(0.666667, 1.333333), rate=0.004)
        """
        last = self.terms[-1]
        ratios = tuple(params.get(f"log2_{name}_to_{last}", 0.0) for name in self.terms[:-1])
        rate = float(f"{self.rate * 2.0 ** params.get(RATE_NAME, 0.0):.6g}")
        return Point(ratios, weights_of(ratios, self.start), rate)

    def params(self, point: Point) -> dict[str, float]:
        """The parameters of a point."""
        last = self.terms[-1]
        ratios = zip(self.terms[:-1], point.ratios, strict=True)
        values = {f"log2_{name}_to_{last}": ratio for name, ratio in ratios}
        values[RATE_NAME] = round(log2(point.rate / self.rate), 9)
        return {name: values[name] for name in self.names}

    def grid(self) -> list[Point]:
        """Every point of a grid, rates inside ratios.

        Example:
            >>> len(Space(("cls", "loc"), (1.0, 1.0), 0.002, steps=1.0).grid())
            28
        """
        found: list[dict[str, float]] = [{}]
        for name in self.names:
            low, high = self.bounds(name)
            step = self.steps or 1.0
            values = [low + step * i for i in range(int((high - low) / step + 1e-9) + 1)]
            found = [{**one, name: value} for one in found for value in values]
        return [self.point(one) for one in found]
