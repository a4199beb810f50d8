"""Unconflicting projection of gradients."""

from typing import ClassVar

from lossweave.combiners.gradients.base import ConeProjection
from lossweave.combiners.registry import register_combiner

__all__ = ["UPGrad"]


@register_combiner
class UPGrad(ConeProjection):
    r"""Each gradient is projected onto the cone of directions that no term minds; then they
    are averaged: :math:`\sum_k p_k \, \pi_J(g_k)` (Quinton and Rey, Jacobian Descent for
    Multi-Objective Optimization, 2024).

    No term is made worse, to first order, and each one's influence is in proportion to its
    gradient. For two terms with preferences 1 it is PCGrad.

    Edge cases and arguments are those of
    :class:`~lossweave.combiners.gradients.base.ConeProjection`.

    Example:
        >>> import torch
        >>> combiner = UPGrad()
        >>> combiner.bind(("cls", "loc"))
        >>> gramian = torch.tensor([[18.0, -22.0], [-22.0, 38.0]], dtype=torch.float64)
        >>> [round(w, 2) for w in combiner.weights_of(gramian)]
        [1.11, 0.79]
    """

    weighting: ClassVar[str] = "UPGradWeighting"
