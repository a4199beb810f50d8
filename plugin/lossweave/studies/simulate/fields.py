"""The weights df/dL that a combiner gives over the plane of two losses."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lossweave.studies.simulate.losses import Trainer, effective_weights

__all__ = ["ANGLE", "Field", "Point", "field", "weights_at"]

#: Between the two gradients, in degrees: a conflict, and far from parallel.
ANGLE = 120.0
#: Weights that change by less, relatively, from update to update stand still.
_STILL = 0.01
_PROBE, _PROBED = (0.3, 4.0), 12
_MEAN = 20
STANDING = tuple(-3 + step / 2 for step in range(13))
MOVING = (-3.0, -1.5, 0.0, 1.5, 3.0)


@dataclass(frozen=True)
class Point:
    """Weights where the two losses have given values.

    Args:
        first: the weight of the first loss's gradient.
        second: of the second's.
        size: norm of the combined gradient.
    """

    first: float
    second: float
    size: float


@dataclass(frozen=True)
class Field:
    """Weights over the plane of two losses.

    Args:
        exponents: log10 of the losses' values, the same along both axes.
        points: ``points[i][j]`` where the second loss is ``10 ** exponents[i]`` and the first
            is ``10 ** exponents[j]``.
        moves: whether the weights change while the losses stand still: a combiner that learns,
            draws or takes turns.
        updates: after how many updates of standing losses they were read; if ``moves``, the
            mean of the last 20.
    """

    exponents: tuple[float, ...]
    points: tuple[tuple[Point, ...], ...]
    moves: bool
    updates: int


def weights_at(combiner: Any, first: float, second: float, updates: int) -> list[Point]:
    """The weights in every update while the two losses stand at given values.

    A loss's gradient has the norm of its value, as when a loss of 1 with a gradient of norm 1 is
    scaled; the two gradients are :data:`ANGLE` apart.

    Args:
        combiner: what :func:`~lossweave.combination.build_combination` takes.
        first: value of the first loss.
        second: of the second.
        updates: how many.

    Example:
        >>> point = weights_at("Product", 2.0, 3.0, updates=1)[0]
        >>> round(point.first, 6), round(point.second, 6)
        (3.0, 2.0)
    """
    trainer = Trainer(combiner, updates)
    angle = math.radians(ANGLE)
    gradients = ((first, 0.0), (second * math.cos(angle), second * math.sin(angle)))
    found = []
    for _ in range(updates):
        combined = trainer.backward((first, second), gradients)
        found.append(Point(*effective_weights(combined, gradients), math.hypot(*combined)))
    return found


def settled(combiner: Any, first: float, second: float, updates: int) -> Point:
    """The mean of the last weights of so many updates; stops early where they stand still."""
    points = weights_at(combiner, first, second, updates)[-_MEAN:]
    count = len(points)
    return Point(
        sum(point.first for point in points) / count,
        sum(point.second for point in points) / count,
        sum(point.size for point in points) / count,
    )


def moves(combiner: Any) -> bool:
    """Whether a combiner's weights change while the losses stand still."""
    points = weights_at(combiner, *_PROBE, updates=_PROBED)
    return any(
        abs(getattr(point, side) - getattr(points[0], side))
        > _STILL * max(abs(getattr(points[0], side)), 1e-9)
        for point in points
        for side in ("first", "second")
    )


def field(combiner: Any, updates: int, exponents: Sequence[float] | None = None) -> Field:
    """The weights over the plane of two losses from 0.001 to 1000.

    Args:
        combiner: what :func:`~lossweave.combination.build_combination` takes.
        updates: of standing losses, for combiners whose weights move.
        exponents: log10 of the values; None means half decades, and coarser where weights move.
    """
    moving = moves(combiner)
    if exponents is None:
        exponents = MOVING if moving else STANDING
    count = updates if moving else 1
    points = tuple(
        tuple(settled(combiner, 10.0**first, 10.0**second, count) for first in exponents)
        for second in exponents
    )
    return Field(tuple(exponents), points, moving, count)
