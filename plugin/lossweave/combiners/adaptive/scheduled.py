"""Weights that follow the progress of the training."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from lossweave.combiners.base import Combined, Combiner
from lossweave.combiners.registry import register_combiner
from lossweave.errors import LossweaveError
from lossweave.progress import Progress
from lossweave.utils.fields import read_fields

__all__ = ["Curve", "Scheduled"]


@dataclass(frozen=True)
class Curve:
    """A weight over time: values at points, and how it goes between them.

    Before the first point it has the first value, after the last one the last.

    Args:
        points: (position, value), the positions rising.
        shape: between two points: a line, half a cosine, or the earlier value ('step').
        unit: of the positions: optimizer updates, epochs (fractions too), or 'share' of the
            whole training, 0 to 1.

    Example:
        >>> ramp = Curve(points=((0, 0.1), (100, 0.9), (200, 0.1)))
        >>> [round(ramp.at(position), 3) for position in (-5, 0, 50, 100, 175, 500)]
        [0.1, 0.1, 0.5, 0.9, 0.3, 0.1]
    """

    points: tuple[tuple[float, float], ...]
    shape: Literal["linear", "cosine", "step"] = "linear"
    unit: Literal["update", "epoch", "share"] = "update"

    def __post_init__(self) -> None:
        positions = [position for position, _ in self.points]
        if not positions or any(a >= b for a, b in itertools.pairwise(positions)):
            raise LossweaveError(
                f"points={[list(point) for point in self.points]!r} should be one or more "
                "(position, value), the positions rising"
            )

    @property
    def highest(self) -> float:
        """The largest value it ever has."""
        return max(value for _, value in self.points)

    def at(self, position: float) -> float:
        """The value at a position."""
        earlier = [point for point in self.points if point[0] <= position]
        later = [point for point in self.points if point[0] > position]
        if not earlier or not later:
            return (earlier[-1] if earlier else later[0])[1]
        (start, low), (end, high) = earlier[-1], later[0]
        share = {"linear": lambda x: x, "cosine": lambda x: (1 - math.cos(math.pi * x)) / 2,
                 "step": lambda x: 0.0}[self.shape]((position - start) / (end - start))  # fmt: skip
        return low + (high - low) * share

    def now(self, progress: Progress) -> float:
        """The value at this moment of a training.

        Raises:
            LossweaveError: the length of an epoch, or of the training, is not known.
        """
        done = progress.update * progress.accumulation
        length = {"update": progress.accumulation, "epoch": progress.iterations_per_epoch,
                  "share": progress.max_iterations}[self.unit]  # fmt: skip
        if not length:
            what = "an epoch" if self.unit == "epoch" else "the training"
            raise LossweaveError(
                f"Scheduled: unit={self.unit!r} needs the number of iterations in {what}, which "
                "is not known here; use unit='update'"
            )
        return self.at(done / length)


@register_combiner
class Scheduled(Combiner):
    r"""A weighted sum whose weights follow the training: :math:`\sum_k c_k(t) L_k`, each
    :math:`c_k` a number, or a :class:`Curve` through given points.

    Stateless: the weights follow from the count of optimizer updates, so a resumed run goes on
    exactly, and all iterations that accumulate to one update have the same. The last update of a
    training stands one update before its end, so a curve over 'share' reaches the value at 1
    only after it.

    Edge cases: linear, as :class:`~lossweave.combiners.Sum`. A weight may be 0, or negative.

    Args:
        weights: by term, a number, or
            ``dict(points=[(0, 0.1), (1000, 0.9)], shape='linear', unit='update')``; shape is
            'linear', 'cosine' or 'step', unit 'update', 'epoch' or 'share' (of the training).
            A term that is not named has weight 1, as all have where it is None.

    Raises:
        LossweaveError: an unknown term, no points, positions that do not rise, no
            weight that is ever above 0, another word for
            ``shape`` or ``unit``; in training, epochs or shares where their length is not known.

    Example:
        >>> ramp = dict(points=[(0, 0.0), (10, 1.0)])
        >>> combiner = Scheduled(weights={"loc": ramp})
        >>> combiner.bind(("cls", "loc"))
        >>> combiner.begin(Progress(5))
        >>> combiner.combine(torch.tensor([1.0, 4.0]), torch.tensor([True, True]))
        Combined(value=tensor(3.), weights=tensor([1.0000, 0.5000]))
    """

    linear: ClassVar[bool] = True
    scheduled: ClassVar[bool] = True

    def __init__(self, weights: dict[str, float | dict[str, Any]] | None = None) -> None:
        super().__init__()
        self.weights = weights
        self.curves = {
            term: read_fields(Curve, weight, f"Scheduled: weights.{term}")
            if isinstance(weight, Mapping)
            else Curve(points=((0.0, float(weight)),))
            for term, weight in (weights or {}).items()
        }
        self._now: Tensor | None = None

    @property
    def needs_hook(self) -> bool:
        return True

    def bind(self, terms: Sequence[str]) -> None:
        super().bind(terms)
        for term in self.curves:
            self.index_of(term, "weights")
        trained = [term not in self.curves or self.curves[term].highest > 0 for term in self.terms]
        self.require("weights", self.weights, any(trained), "above 0 at some time for some term")

    def begin(self, progress: Progress) -> None:
        super().begin(progress)
        self._now = None

    def factors(self) -> list[float]:
        """The weights at this moment, in the order of the terms."""
        plain = Curve(points=((0.0, 1.0),))
        return [self.curves.get(term, plain).now(self.progress) for term in self.terms]

    def combine(self, losses: Tensor, present: Tensor) -> Combined:
        if self._now is None or self._now.dtype != losses.dtype:
            self._now = torch.tensor(self.factors(), dtype=losses.dtype)
            self._now = self._now.to(losses, non_blocking=True)
        weights = self._now.masked_fill(~present, 0)
        return Combined((weights * losses).sum(), weights)
