"""Impartial multi-task learning, on gradients."""

from typing import Any

from torch import Tensor
from typing_extensions import Unpack

from lossweave.combiners.gradients._torchjd import torchjd_part, unit_trace
from lossweave.combiners.gradients.base import GradientCombiner, Shared
from lossweave.combiners.registry import register_combiner

__all__ = ["IMTLG"]


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

    def __init__(self, **shared: Unpack[Shared]) -> None:
        super().__init__(**shared)
        self._weighting: Any = torchjd_part("IMTLG", "IMTLGWeighting")()

    def weigh(self, gramian: Tensor, terms: list[int]) -> Tensor:
        return self._weighting(unit_trace(gramian))
