"""Impartial multi-task learning, on gradients."""

from typing import Any

import torch
from torch import Tensor
from typing_extensions import Unpack

from lossweave.combiners._preference import own
from lossweave.combiners.gradients._torchjd import torchjd_part, unit_trace
from lossweave.combiners.gradients.base import GradientCombiner, Shared
from lossweave.combiners.registry import register_combiner

__all__ = ["IMTLG", "projected_weights"]


def projected_weights(gramian: Tensor, shares: Tensor) -> Tensor:
    r""":math:`w \propto G^{+} (d \circ p)`, :math:`\sum_k w_k = 1`: the combination whose
    projections on the gradients are in the ratio p; 0 where there is none.

    Args:
        gramian: of rows that are not zero, float64, shape ``(m, m)``.
        shares: p, shape ``(m,)``.

    Example:
        >>> projected_weights(torch.eye(2).double(), torch.tensor([1.5, 0.5]).double())
        tensor([0.7500, 0.2500], dtype=torch.float64)
    """
    found = torch.linalg.pinv(gramian, hermitian=True) @ (gramian.diagonal().sqrt() * shares)
    total = found.sum()
    return found / total if total.abs() > 1e-12 else torch.zeros_like(found)


@register_combiner
class IMTLG(GradientCombiner):
    r"""The combination whose projections on all gradients are equal:
    :math:`w \propto G^{+} d`, :math:`d_k = \|g_k\|`, :math:`\sum_k w_k = 1` (Liu et al.,
    Towards Impartial Multi-task Learning, 2021).

    For two terms :math:`w_1 = \|g_2\| / (\|g_1\| + \|g_2\|)`. From three terms on a weight can
    be negative. The weights add up to 1, so against the plain sum the step is shorter.

    Edge cases: zero rows and absent terms are left out. Gradients that cancel exactly have no
    such combination: the weights are 0.

    Args:
        shared: ``boundary``, ``interval``, ``normalize``, ``private``, ``momentum``, as in
            :class:`~lossweave.combiners.GradientCombiner`.

    Example:
        >>> import torch
        >>> combiner = IMTLG()
        >>> combiner.bind(("cls", "loc"))
        >>> gramian = torch.tensor([[18.0, -22.0], [-22.0, 38.0]], dtype=torch.float64)
        >>> [round(w, 4) for w in combiner.weights_of(gramian)]
        [0.5923, 0.4077]
    """

    preference = own("the projections on the gradients are in the ratio pₖ")

    def __init__(self, **shared: Unpack[Shared]) -> None:
        super().__init__(**shared)
        self._weighting: Any = torchjd_part("IMTLG", "IMTLGWeighting")()

    def weigh(self, gramian: Tensor, terms: list[int]) -> Tensor:
        gramian = unit_trace(gramian)
        if self.prefer is None:
            return self._weighting(gramian)
        return projected_weights(gramian, self.shares_of(terms))
