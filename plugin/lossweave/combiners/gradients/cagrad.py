"""Conflict-averse gradient descent."""

from typing import Any

from torch import Tensor
from typing_extensions import Unpack

from lossweave.combiners.gradients._torchjd import torchjd_part, unit_trace
from lossweave.combiners.gradients.base import GradientCombiner, Shared
from lossweave.combiners.registry import register_combiner

__all__ = ["CAGrad"]


@register_combiner
class CAGrad(GradientCombiner):
    r"""The direction in a ball of radius :math:`c \|\bar g\|` around the mean gradient
    :math:`\bar g` that is best for the worst-off term: :math:`\max_d \min_k g_k \cdot d`,
    :math:`\|d - \bar g\| \leq c \|\bar g\|` (Liu et al., Conflict-Averse Gradient Descent,
    2021).

    With c = 0 it is the mean; from c = 1 on no term is made worse. The step is that of a mean,
    so against the plain sum of K terms it is some K times shorter.

    Edge cases: zero rows and absent terms are left out. Where the gradients cancel, the weights
    are 0: no direction is better for all. A row shorter than ``norm_eps`` of all together looks
    like that, too: where lengths are further apart, as 1 to 20000, ``normalize=True`` keeps
    training from standing still.

    Args:
        c: radius of the ball, relative to the mean gradient.
        norm_eps: length, relative to that of all rows, below which gradients count as cancelled.
        shared: ``boundary``, ``interval``, ``normalize``, ``private``, ``momentum``, as in
            :class:`~lossweave.combiners.GradientCombiner`.

    Raises:
        LossweaveError: ``c`` or ``norm_eps`` negative, or cvxpy and clarabel not installed.

    Example:
        >>> import torch
        >>> combiner = CAGrad(c=0.5)
        >>> combiner.bind(("cls", "loc"))
        >>> gramian = torch.tensor([[18.0, -22.0], [-22.0, 38.0]], dtype=torch.float64)
        >>> [round(w, 3) for w in combiner.weights_of(gramian)]
        [0.704, 0.5]
    """

    def __init__(self, c: float = 0.5, norm_eps: float = 0.0001, **shared: Unpack[Shared]) -> None:
        super().__init__(**shared)
        self.require("c", c, c >= 0, "0 or more")
        self.require("norm_eps", norm_eps, norm_eps >= 0, "0 or more")
        self.c, self.norm_eps = c, norm_eps
        needs = {"cvxpy": "cagrad", "clarabel": "cagrad"}
        self._weighting: Any = torchjd_part("CAGrad", "CAGradWeighting", needs)(c, norm_eps)

    def weigh(self, gramian: Tensor, terms: list[int]) -> Tensor:
        return self._weighting(unit_trace(gramian))
