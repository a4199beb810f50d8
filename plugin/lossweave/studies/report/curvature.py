"""The corner of an L-curve: where a curve through a few points bends most."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

__all__ = ["corner_of", "curvatures"]

#: Of the curve's length; neighbours that are nearer to each other are one point.
_SHORT = 0.03
#: A smaller turn, in degrees, is no corner.
_TURN = 15.0


def curvatures(across: Sequence[float], up: Sequence[float]) -> np.ndarray:
    r"""Signed curvature at the inner points: that of the circle through a point and its neighbours.

    .. math:: \kappa = \frac{4 A}{|ab|\,|bc|\,|ca|}

    where A is the area of the triangle abc, positive where the curve turns left on its way. It
    needs no derivative by a parameter, in which a sweep is seldom even.

    Args:
        across: n abscissas.
        up: n ordinates.

    Returns:
        n - 2 numbers, of one over the axes' unit.

    Example:
        >>> curvatures([1, 0, -1], [0, 1, 0]).round(6).tolist()  # on a circle of radius 1
        [1.0]
    """
    points = np.stack([np.asarray(across, dtype=float), np.asarray(up, dtype=float)], axis=1)
    a, b, c = points[:-2], points[1:-1], points[2:]
    ab, bc, ca = b - a, c - b, a - c
    area = (ab[:, 0] * bc[:, 1] - ab[:, 1] * bc[:, 0]) / 2
    return 4 * area / np.prod([np.hypot(*side.T) for side in (ab, bc, ca)], axis=0)


def corner_of(across: Sequence[float], up: Sequence[float]) -> int | None:
    """Which point of an L-curve is its corner, after Hansen: that of the largest curvature.

    In the plane of the logarithms, on the way from the weakest penalty (far right, low) to the
    strongest (far left, high) the corner is a turn to the right. Points that hardly moved from
    the last one are passed over: the turns between them are noise; and a turn of less than 15
    degrees is no corner.

    Args:
        across: the penalty of every point, from the weakest lambda to the strongest.
        up: the data's loss.

    Returns:
        Its place; None where fewer than three points are apart, or none turns that way.

    Example:
        >>> corner_of([100, 99, 10, 9, 8.9], [1, 1, 1.1, 10, 100])
        2
    """
    xs, ys = np.log10(np.asarray(across, float)), np.log10(np.asarray(up, float))
    usable = [k for k in range(len(xs)) if np.isfinite(xs[k]) and np.isfinite(ys[k])]
    if len(usable) < 3:
        return None
    steps = [np.hypot(xs[j] - xs[i], ys[j] - ys[i])
             for i, j in pairwise(usable)]  # fmt: skip
    least = _SHORT * sum(steps)
    kept = [usable[0]]
    for k in usable[1:]:
        if np.hypot(xs[k] - xs[kept[-1]], ys[k] - ys[kept[-1]]) >= least:
            kept.append(k)
    if len(kept) < 3:
        return None
    headings = np.unwrap(np.arctan2(np.diff(ys[kept]), np.diff(xs[kept])))
    turns = -np.degrees(np.diff(headings))
    bends = np.where(turns >= _TURN, -curvatures(xs[kept], ys[kept]), 0.0)
    best = int(bends.argmax())
    return kept[best + 1] if bends[best] > 0 else None
