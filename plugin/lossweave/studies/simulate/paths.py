"""Trajectories of plain gradient descent and Adam, with the combined gradient."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from lossweave.errors import LossweaveError
from lossweave.studies.simulate.losses import Trainer
from lossweave.studies.simulate.problems import Problem

__all__ = ["FAR", "OPTIMIZERS", "Path", "factors_of", "path"]

#: Learning rates, at which the plain sum trains on both problems; the same for every combiner.
OPTIMIZERS = {"descent": 1.0, "Adam": 0.2}
#: So many lengths of the Pareto set away from the start is exploded.
FAR = 100.0
_REST, _RESTING = 1e-6, 12  # lengths of the front; updates
_KEPT = 0.01  # of the front's length, between two points that are kept


@dataclass(frozen=True)
class Path:
    """Where a training went.

    Args:
        points: the parameters, thinned; the first is the start and the last the end.
        losses: the two losses there, at their own scale.
        updates: that were made; fewer than asked for where it exploded or stood still.
        exploded: whether it went far away, or a number was not finite.
        late: length of the way in the last tenth of the updates asked for.
    """

    points: tuple[tuple[float, float], ...]
    losses: tuple[tuple[float, float], ...]
    updates: int
    exploded: bool
    late: float


def factors_of(scale: float) -> tuple[float, float]:
    """What the two losses are multiplied by so that the second is ``scale`` times the first.

    The larger keeps its own size and the other is made smaller, so that it is the ratio alone
    that changes, and the sum trains at one learning rate for all.

    Example:
        >>> factors_of(1000.0), factors_of(0.5)
        ((0.001, 1.0), (1.0, 0.5))
    """
    return min(1.0, 1 / scale), min(1.0, scale)


def path(
    combiner: Any,
    problem: Problem,
    scale: float,
    optimizer: str,
    start: Sequence[float],
    steps: int,
) -> Path:
    """Train from a start.

    Args:
        combiner: what :func:`~lossweave.combination.build_combination` takes.
        problem: the two losses.
        scale: how much larger the second loss is made than the first.
        optimizer: 'descent' or 'Adam', at the rates of :data:`OPTIMIZERS`.
        start: the two parameters.
        steps: updates.
    """
    trainer = Trainer(combiner, steps)
    theta, rate = trainer.theta, OPTIMIZERS[optimizer]
    kind = torch.optim.SGD if optimizer == "descent" else torch.optim.Adam
    stepper = kind([theta], lr=rate)
    with torch.no_grad():
        theta.copy_(torch.tensor(start, dtype=theta.dtype))
    length = problem.front.length
    way = [(float(start[0]), float(start[1]))]
    resting, exploded = 0, False
    for _ in range(steps):
        try:
            _backward(trainer, problem, scale, way[-1])
        except (LossweaveError, OverflowError):  # a loss that is not finite is refused
            exploded = True
            break
        stepper.step()
        x, y = theta.tolist()
        moved = math.dist(way[-1], (x, y))
        way.append((x, y))
        if not moved < FAR * length or not math.dist(way[0], (x, y)) < FAR * length:
            exploded = True
            break
        resting = resting + 1 if moved < _REST * length else 0
        if resting == _RESTING:
            break
    return _thinned(way, problem, steps, exploded)


def _backward(
    trainer: Trainer, problem: Problem, scale: float, point: tuple[float, float]
) -> None:
    losses = problem.at(*point)
    factors = factors_of(scale)
    trainer.backward(
        [f * value for f, value in zip(factors, losses.values, strict=True)],
        [(f * x, f * y) for f, (x, y) in zip(factors, losses.gradients, strict=True)],
    )


def _thinned(
    way: list[tuple[float, float]], problem: Problem, steps: int, exploded: bool
) -> Path:
    finite = [point for point in way if all(map(math.isfinite, point))]
    near = _KEPT * problem.front.length
    kept = finite[:1]
    for point in finite[1:-1]:
        if math.dist(kept[-1], point) > near:
            kept.append(point)
    if len(finite) > 1:
        kept.append(finite[-1])
    first = steps - max(steps // 10, 1)
    late = sum(math.dist(way[i], way[i + 1]) for i in range(first, len(way) - 1))
    losses = []
    for point in kept:
        try:
            losses.append(problem.at(*point).values)
        except OverflowError:
            losses.append((math.inf, math.inf))
    return Path(tuple(kept), tuple(losses), len(way) - 1, exploded, late)
