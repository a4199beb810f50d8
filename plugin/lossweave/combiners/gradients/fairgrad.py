"""Fair resource allocation."""

import math
from typing import Any

from torch import Tensor
from typing_extensions import Unpack

from lossweave.combiners._preference import own
from lossweave.combiners.gradients._fair import fair_weights
from lossweave.combiners.gradients._torchjd import torchjd_part, unit_trace
from lossweave.combiners.gradients.base import GradientCombiner, Shared
from lossweave.combiners.registry import register_combiner

__all__ = ["FairGrad"]


@register_combiner
class FairGrad(GradientCombiner):
    r"""The alpha-fair direction: :math:`G w = w^{-1/\alpha}`, :math:`w > 0` (Ban and Ji, Fair
    Resource Allocation in Multi-Task Learning, 2024).

    With alpha = 1 it is proportional fairness, for large alpha max-min fairness, and 0 is the
    mean. The length of the step depends on the gradients' scale as
    :math:`\|g\|^{(1 - \alpha) / (1 + \alpha)}`; a loss scaler's factor is out of it.

    Edge cases: zero rows and absent terms are left out.

    Args:
        alpha: kind of fairness, not negative.
        max_iters: evaluations of the solver, at most; None means 100 per term.
        shared: ``boundary``, ``interval``, ``normalize``, ``private``, ``momentum``, as in
            :class:`~lossweave.combiners.GradientCombiner`.

    Raises:
        LossweaveError: ``alpha`` negative, ``max_iters`` below 1, or scipy not installed.

    Example:
        >>> import torch
        >>> combiner = FairGrad(alpha=1.0)
        >>> combiner.bind(("cls", "loc"))
        >>> gramian = torch.tensor([[4.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
        >>> [round(w, 4) for w in combiner.weights_of(gramian)]
        [0.5, 1.0]
    """

    preference = own("the utilities are multiplied by pₖ: (G w)ₖ = (pₖ / wₖ)^(1 / alpha)")

    def __init__(
        self, alpha: float = 1.0, max_iters: int | None = None, **shared: Unpack[Shared]
    ) -> None:
        super().__init__(**shared)
        self.require("alpha", alpha, 0 <= alpha < math.inf, "finite and not negative")
        self.require("max_iters", max_iters, max_iters is None or max_iters >= 1, "at least 1")
        self.alpha, self.max_iters = alpha, max_iters
        self._weighting: Any = torchjd_part("FairGrad", "FairGradWeighting", {"scipy": "fairgrad"})(
            alpha, max_iters
        )

    def weigh(self, gramian: Tensor, terms: list[int]) -> Tensor:
        if self.prefer is not None and self.alpha > 0:
            return fair_weights(gramian, self.shares_of(terms), self.alpha)
        # Solved at trace 1, where the solver's tolerances fit, and carried back exactly:
        # G -> c G takes w -> c^(-alpha / (1 + alpha)) w.
        trace = gramian.diagonal().sum()
        weights = self._weighting(unit_trace(gramian)) * trace ** (-self.alpha / (1 + self.alpha))
        return weights * self.shares_of(terms)
