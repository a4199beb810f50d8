"""Conflict-averse gradient descent."""

from typing import Any

import torch
from torch import Tensor
from typing_extensions import Unpack

from lossweave.combiners._preference import own
from lossweave.combiners.gradients._torchjd import torchjd_part, unit_trace
from lossweave.combiners.gradients.base import GradientCombiner, Shared
from lossweave.combiners.registry import register_combiner

__all__ = ["CAGrad", "averse_weights"]


def averse_weights(gramian: Tensor, shares: Tensor, c: float, cancelled: float) -> Tensor:
    r"""The weights of :math:`\max_d \min_k g_k \cdot d / p_k`, :math:`\|d - g_0\| \leq c \|g_0\|`,
    with :math:`g_0` the mean of :math:`p_k g_k`.

    By duality :math:`d = g_0 + c \|g_0\| g_w / \|g_w\|`, where :math:`g_w` is the convex
    combination of the :math:`g_k / p_k` with the least :math:`g_w \cdot g_0 + c \|g_0\| \|g_w\|`.

    Args:
        gramian: float64, shape ``(m, m)``.
        shares: p, positive, shape ``(m,)``.
        c: radius.
        cancelled: length below which :math:`g_w` counts as none, and the weights are 0.

    Raises:
        ValueError: the solver has found nothing.
    """
    import cvxpy

    values, vectors = torch.linalg.eigh(gramian)
    rows = vectors * values.clamp(min=0).sqrt()  # some that have this Gramian
    mean = shares / len(shares)
    centre = mean @ rows
    radius = c * centre.norm()
    mixture = cvxpy.Variable(len(shares), nonneg=True)
    mixed = (rows / shares[:, None]).T.numpy() @ mixture
    cost = mixed @ centre.numpy() + float(radius) * cvxpy.norm(mixed)
    cvxpy.Problem(cvxpy.Minimize(cost), [cvxpy.sum(mixture) == 1]).solve(cvxpy.CLARABEL)
    if mixture.value is None:
        raise ValueError("the solver has found nothing")
    found = torch.as_tensor(mixture.value, dtype=torch.float64) / shares
    length = (found @ rows).norm()
    return torch.zeros_like(mean) if length < cancelled else mean + radius / length * found


@register_combiner
class CAGrad(GradientCombiner):
    r"""The direction in a ball of radius :math:`c \|\bar g\|` around the mean gradient
    :math:`\bar g` that is best for the worst-off term: :math:`\max_d \min_k g_k \cdot d`,
    :math:`\|d - \bar g\| \leq c \|\bar g\|` (Liu et al., Conflict-Averse Gradient Descent,
    2021).

    With c = 0 it is the mean; from c = 1 on no term is made worse. The step is that of a mean,
    so against the plain sum of K terms it is some K times shorter.

    Edge cases: zero rows and absent terms are left out. Where the gradients cancel, the weights
    are 0: no direction is better for all. Rows of very different lengths do not look like that, up
    to 1 to 10 million, where the solver's precision ends.

    Args:
        c: radius of the ball, relative to the mean gradient.
        norm_eps: length, relative to the shortest row, below which gradients count as cancelled.
        shared: ``boundary``, ``interval``, ``normalize``, ``private``, ``momentum``, as in
            :class:`~lossweave.combiners.GradientCombiner`.

    Raises:
        LossweaveError: ``c`` or ``norm_eps`` negative, or cvxpy and clarabel not installed.

    Example:
        >>> combiner = CAGrad(c=0.5)
        >>> combiner.bind(("cls", "loc"))
        >>> gramian = torch.tensor([[18.0, -22.0], [-22.0, 38.0]], dtype=torch.float64)
        >>> [round(w, 3) for w in combiner.weights_of(gramian)]
        [0.704, 0.5]
    """

    preference = own(
        "the ball is around the mean of pₖ gₖ, and the worst off has the least gₖ · d / pₖ"
    )

    def __init__(self, c: float = 0.5, norm_eps: float = 0.0001, **shared: Unpack[Shared]) -> None:
        super().__init__(**shared)
        self.require("c", c, c >= 0, "0 or more")
        self.require("norm_eps", norm_eps, norm_eps >= 0, "0 or more")
        self.c, self.norm_eps = c, norm_eps
        needs = {"cvxpy": "cagrad", "clarabel": "cagrad"}
        self._weighting: Any = torchjd_part("CAGrad", "CAGradWeighting", needs)(c, norm_eps)

    def weigh(self, gramian: Tensor, terms: list[int]) -> Tensor:
        gramian = unit_trace(gramian)
        # TorchJD's is relative to all rows: with lengths 1 to 10000 the best mixture of them, which
        # is near the shortest, would seem to be nothing.
        cancelled = self.norm_eps * float(gramian.diagonal().min().sqrt())
        if self.prefer is not None:
            return averse_weights(gramian, self.shares_of(terms), self.c, cancelled)
        self._weighting.norm_eps = cancelled
        return self._weighting(gramian)
