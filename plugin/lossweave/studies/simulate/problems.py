"""Pairs of losses over two shared parameters, with their gradients and their Pareto sets."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["PROBLEMS", "Front", "Losses", "Problem", "conflicting_toy", "least_squares", "problem"]

_POINTS = 4001  # of a front
#: What the toy's losses are raised by, so that they are positive, as losses are; their
#: gradients stay what they are.
_RAISED = 20.0
_LEAST = 5e-6


class Losses(NamedTuple):
    """The two losses at a point, and their gradients there.

    Args:
        values: of the first and of the second loss.
        gradients: with respect to the two parameters.
    """

    values: tuple[float, float]
    gradients: tuple[tuple[float, float], tuple[float, float]]


class Front(NamedTuple):
    """The Pareto set and what the losses are on it, from the first loss's best to the second's.

    Args:
        points: parameters, shape ``(N, 2)``.
        values: the two losses there, shape ``(N, 2)``.
    """

    points: Tensor
    values: Tensor

    @property
    def ranges(self) -> Tensor:
        """How far each loss goes on the front, shape ``(2,)``."""
        return self.values.amax(0) - self.values.amin(0)

    @property
    def length(self) -> float:
        """Distance between its two ends, in the parameters."""
        return float((self.points[-1] - self.points[0]).norm())

    def gap(self, values: Sequence[float]) -> tuple[float, float]:
        """How far a point is from the front, and beside which place of it.

        Args:
            values: the two losses.

        Returns:
            The share of their ranges by which BOTH losses could still fall, 0 on the front; and
            the place on it that allows this, from 0 (best for the first loss) to 1.

        Example:
            >>> front = Front(torch.zeros(3, 2), torch.tensor([[0., 4.], [1., 1.], [4., 0.]]))
            >>> front.gap((3.0, 3.0))
            (0.5, 0.5)
        """
        both = (torch.tensor(values, dtype=self.values.dtype) - self.values) / self.ranges
        best, at = both.amin(1).max(0)
        return max(float(best), 0.0), float(at) / (len(self.values) - 1)


@dataclass(frozen=True)
class Problem:
    """Two losses of two shared parameters.

    Args:
        name: as the command line has it.
        title: for pictures.
        at: the losses and gradients at two parameters.
        starts: where trajectories begin.
        front: the Pareto set.
        box: what pictures show, (left, right, bottom, top).
    """

    name: str
    title: str
    at: Callable[[float, float], Losses]
    starts: tuple[tuple[float, float], ...]
    front: Front
    box: tuple[float, float, float, float]


def conflicting_toy(seed: int = 0) -> Problem:
    r"""The two conflicting objectives on which PCGrad, MGDA and CAGrad are shown against each
    other (Liu et al., Conflict-Averse Gradient Descent, 2021; Navon et al., Nash-MTL, 2022, and
    Liu et al., FAMO, 2023, have it from there).

    .. math:: L_i = c_1 f_i + c_2 g_i + 20, \quad c_1 = \max(\tanh(y / 2), 0), \quad
        c_2 = \max(\tanh(-y / 2), 0)

    .. math:: f_1 = \log \max(|(-x - 7) / 2 + \tanh y|, 5 \cdot 10^{-6}) + 6, \quad
        f_2 = \log \max(|(-x + 3) / 2 - \tanh y + 2|, 5 \cdot 10^{-6}) + 6

    .. math:: g_{1, 2} = ((x \mp 7)^2 + (y + 8)^2 / 10) / 10 - 20

    Two steep valleys lie above y = 0, a shallow bowl for each loss below. The 20 is added here:
    it leaves the gradients, and makes the losses positive, as those of a detector are.

    Args:
        seed: not needed, as nothing is drawn.
    """
    mix = torch.linspace(0, 1, _POINTS, dtype=torch.float64)
    # On the front x goes from 7 to -7, and the weighted sum of the bowls has its least y there.
    x = 7 - 14 * mix
    bowls = (1 - mix) * (x - 7).square() / 10 + mix * (x + 7).square() / 10 - 20
    y = torch.full_like(x, -8.0)
    for _ in range(50):  # d/dy of c2 (bowl + (y + 8)^2 / 100) is 0
        c2, slope = torch.tanh(-y / 2), -0.5 * (1 - torch.tanh(y / 2).square())
        y = -8 - 50 * slope * (bowls + (y + 8).square() / 100) / c2
    points = torch.stack([x, y], 1)
    values = torch.tensor([_toy(*point).values for point in points.tolist()], dtype=torch.float64)
    return Problem(
        "toy",
        "conflicting toy (CAGrad)",
        _toy,
        ((-8.5, 7.5), (-8.5, -5.0), (9.0, 9.0)),
        Front(points, values),
        (-11.0, 11.0, -11.0, 11.0),
    )


def _toy(x: float, y: float) -> Losses:
    half, wave = math.tanh(y / 2), math.tanh(y)
    c1, c2 = max(half, 0.0), max(-half, 0.0)
    slope = 0.5 * (1 - half * half)
    c1_y, c2_y = (slope if half > 0 else 0.0), (-slope if half < 0 else 0.0)
    found = []
    for side, inner, inner_y in (
        (7.0, (-x - 7) / 2 + wave, 1 - wave * wave),
        (-7.0, (-x + 3) / 2 - wave + 2, wave * wave - 1),
    ):
        far = abs(inner) > _LEAST
        f = math.log(max(abs(inner), _LEAST)) + 6
        f_x, f_y = (-0.5 / inner, inner_y / inner) if far else (0.0, 0.0)
        g = ((x - side) ** 2 + (y + 8) ** 2 / 10) / 10 - 20
        value = c1 * f + c2 * g + _RAISED
        gradient_x = c1 * f_x + c2 * (x - side) / 5
        gradient_y = c1 * f_y + c1_y * f + c2 * (y + 8) / 50 + c2_y * g
        found.append((value, (gradient_x, gradient_y)))
    (first, first_slope), (second, second_slope) = found
    return Losses((first, second), (first_slope, second_slope))


def least_squares(seed: int = 0) -> Problem:
    r"""Two linear least-squares problems in the same two unknowns, each with a solution of its own.

    .. math:: L_i = \tfrac{1}{2 n} \|A_i (\theta - s_i)\|^2

    with :math:`s_{1, 2} = (\mp 3, 0)` and the entries of :math:`A_i` (n = 6 rows) drawn from
    normal distributions and scaled to a largest curvature of 1/4. Each loss is 0 at its own
    solution, and the Pareto set is the curve :math:`(a H_1 + b H_2)^{-1} (a H_1 s_1 + b H_2 s_2)`
    with :math:`H_i = A_i^\top A_i / n` and a + b = 1.

    Args:
        seed: of the draws.
    """
    generator = torch.Generator().manual_seed(seed)
    curvatures = []
    for _ in range(2):
        rows = torch.randn(6, 2, generator=generator, dtype=torch.float64)
        curvature = rows.T @ rows
        curvatures.append(curvature / (4 * torch.linalg.eigvalsh(curvature)[-1]))
    solutions = torch.tensor([[-3.0, 0.0], [3.0, 0.0]], dtype=torch.float64)
    (h1, h2), (s1, s2) = curvatures, solutions
    numbers = [
        (*h.flatten().tolist(), *s.tolist()) for h, s in zip(curvatures, solutions, strict=True)
    ]

    def at(x: float, y: float) -> Losses:
        values, gradients = [], []
        for a, b, _, d, u, v in numbers:
            p, q = x - u, y - v
            slope = (a * p + b * q, b * p + d * q)
            values.append((p * slope[0] + q * slope[1]) / 2)
            gradients.append(slope)
        return Losses((values[0], values[1]), (gradients[0], gradients[1]))

    mix = torch.linspace(0, 1, _POINTS, dtype=torch.float64)[:, None, None]
    both = (1 - mix) * h1 + mix * h2
    right = (1 - mix) * (h1 @ s1)[:, None] + mix * (h2 @ s2)[:, None]
    points = torch.linalg.solve(both, right).squeeze(-1)
    values = torch.tensor([at(*point).values for point in points.tolist()], dtype=torch.float64)
    return Problem(
        "least-squares",
        "least squares",
        at,
        ((-6.0, 5.0), (5.0, 6.0), (0.0, -6.0)),
        Front(points, values),
        (-8.0, 8.0, -8.0, 8.0),
    )


#: The problems by name; each is made from a seed.
PROBLEMS: Mapping[str, Callable[[int], Problem]] = {
    "toy": conflicting_toy,
    "least-squares": least_squares,
}


def problem(name: str, seed: int = 0) -> Problem:
    """The problem of that name.

    Example:
        >>> problem("least-squares").at(-3.0, 0.0).values[0]
        0.0
    """
    return PROBLEMS[name](seed)
