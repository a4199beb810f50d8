"""Multiple-gradient descent."""

from typing import Any

from torch import Tensor
from typing_extensions import Unpack

from lossweave.combiners._preference import DIVIDED_ROWS
from lossweave.combiners.gradients._torchjd import torchjd_part, unit_trace
from lossweave.combiners.gradients.base import GradientCombiner, Shared
from lossweave.combiners.registry import register_combiner

__all__ = ["MGDA"]


@register_combiner
class MGDA(GradientCombiner):
    r"""The shortest convex combination of the gradients: :math:`\min_w \|\sum_k w_k g_k\|`,
    :math:`w \geq 0`, :math:`\sum_k w_k = 1` (Desideri, 2012; Sener and Koltun, Multi-Task
    Learning as Multi-Objective Optimization, 2018), by the Frank-Wolfe method.

    It points down for every term, and its length goes to 0 where they cannot agree. The weights
    add up to 1: against the plain sum of K terms the step is some K times shorter.

    Edge cases: zero rows and absent terms are left out (with them, the shortest combination
    would be 0 and training would stall).

    Args:
        epsilon: the search stops at a step shorter than this.
        max_iters: at most so many steps.
        shared: ``boundary``, ``interval``, ``normalize``, ``private``, ``momentum``, as in
            :class:`~lossweave.combiners.GradientCombiner`.

    Raises:
        LossweaveError: ``epsilon`` not positive, or ``max_iters`` below 1.

    Example:
        >>> import torch
        >>> combiner = MGDA()
        >>> combiner.bind(("cls", "loc"))
        >>> gramian = torch.tensor([[18.0, -22.0], [-22.0, 38.0]], dtype=torch.float64)
        >>> [round(w, 4) for w in combiner.weights_of(gramian)]
        [0.6, 0.4]
    """

    preference = DIVIDED_ROWS

    def __init__(
        self, epsilon: float = 0.001, max_iters: int = 100, **shared: Unpack[Shared]
    ) -> None:
        super().__init__(**shared)
        self.require("epsilon", epsilon, 0 < epsilon < 1, "between 0 and 1")
        self.require("max_iters", max_iters, max_iters >= 1, "at least 1")
        self.epsilon, self.max_iters = epsilon, max_iters
        self._weighting: Any = torchjd_part("MGDA", "MGDAWeighting")(epsilon, max_iters)

    def weigh(self, gramian: Tensor, terms: list[int]) -> Tensor:
        return self._weighting(unit_trace(gramian))
