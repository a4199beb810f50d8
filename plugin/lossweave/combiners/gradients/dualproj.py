"""Projection onto the dual cone."""

from typing import ClassVar

from lossweave.combiners.gradients.base import ConeProjection
from lossweave.combiners.registry import register_combiner

__all__ = ["DualProj"]


@register_combiner
class DualProj(ConeProjection):
    r"""The mean gradient, projected onto the cone of directions that no term minds:
    :math:`\pi_J(\sum_k p_k g_k)` (Lopez-Paz and Ranzato, Gradient Episodic Memory, 2017;
    Quinton and Rey, 2024).

    No term is made worse, to first order. A term with a long gradient prevails in the mean.

    Edge cases and arguments are those of
    :class:`~lossweave.combiners.gradients.base.ConeProjection`.

    Example:
        >>> import torch
        >>> combiner = DualProj()
        >>> combiner.bind(("cls", "loc"))
        >>> gramian = torch.tensor([[18.0, -22.0], [-22.0, 38.0]], dtype=torch.float64)
        >>> [round(w, 2) for w in combiner.weights_of(gramian)]
        [0.61, 0.5]
    """

    weighting: ClassVar[str] = "DualProjWeighting"
