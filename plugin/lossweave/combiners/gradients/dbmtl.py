"""Dual balancing of losses and gradients."""

from typing import Annotated

import torch
from torch import Tensor
from typing_extensions import Unpack

from lossweave.combiners.gradients.base import GradientCombiner, Shared
from lossweave.combiners.registry import register_combiner
from lossweave.utils.fields import at_least

__all__ = ["DBMTL", "dual_balanced_weights"]


def dual_balanced_weights(norms: Tensor, losses: Tensor, eps: float) -> Tensor:
    r""":math:`w_k = \max_j \|u_j\| / \|g_k\|` with :math:`u_k = g_k / (L_k + \epsilon)`, the
    gradient of :math:`\log(L_k + \epsilon)`: every such gradient is brought to the length of
    the longest. A term at 0 or below has no logarithm, and weight 0.

    Args:
        norms: :math:`\|g_k\|`, positive, shape ``(K,)``.
        losses: shape ``(K,)``.
        eps: :math:`\epsilon`.

    Example:
        >>> dual_balanced_weights(torch.tensor([1.0, 6.0]), torch.tensor([1.0, 2.0]), 0.0)
        tensor([3.0000, 0.5000])
    """
    known = (losses > 0) & losses.isfinite()
    relative = torch.where(known, norms / torch.where(known, losses + eps, 1.0), 0.0)
    return torch.where(known, relative.max() / norms, 0.0)


@register_combiner
class DBMTL(GradientCombiner):
    r"""The gradients of the terms' logarithms, each brought to the length of the longest, then
    added: :math:`\sum_k \frac{\max_j \|u_j\|}{\|u_k\|} u_k`, :math:`u_k = \nabla \log L_k`
    (Lin et al., Dual-Balancing for Multi-Task Learning, 2023).

    Neither the scale of a loss nor the length of its gradient makes it prevail. In the end every
    :math:`g_k` has the same length; the losses decide which. The paper also smooths the rows
    over time, with a share of :math:`\beta / t^{1/2}` that fades; that takes a copy of all
    shared parameters per term, in memory and in the checkpoint, and is left out here.

    Edge cases: zero rows and absent terms are left out. A term whose loss is at 0 or below has
    weight 0; with one term left, its weight is 1.

    Args:
        eps: added to each loss in its logarithm; 1e-8 as in LibMTL.
        shared: ``boundary``, ``interval``, ``normalize``, ``private``, ``momentum``, as in
            :class:`~lossweave.combiners.GradientCombiner`.

    Raises:
        LossweaveError: ``eps`` negative.

    Example:
        >>> combiner = DBMTL()
        >>> combiner.bind(("cls", "loc"))
        >>> value, _ = combiner.combine(torch.tensor([1.0, 2.0]), torch.tensor([True, True]))
        >>> gramian = torch.tensor([[1.0, 0.0], [0.0, 36.0]], dtype=torch.float64)
        >>> [round(w, 4) for w in combiner.weights_of(gramian)]
        [3.0, 0.5]
    """

    def __init__(
        self, eps: Annotated[float, at_least(0)] = 1e-8, **shared: Unpack[Shared]
    ) -> None:
        super().__init__(**shared)
        self.eps = eps

    def weigh(self, gramian: Tensor, terms: list[int]) -> Tensor:
        losses = torch.ones(len(terms), dtype=torch.float64)
        if self.root_losses is not None:
            losses = self.root_losses.detach().cpu().double()[terms]
        return dual_balanced_weights(gramian.diagonal().sqrt(), losses, self.eps)
