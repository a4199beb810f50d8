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

    Edge cases: zero rows and absent terms are left out. The cone is that of rows scaled to a
    Gramian of trace 1, so very short gradients are projected like others.

    Args:
        pref_vector: preference of each term, by name or in their order; None means equal
            ones that add up to 1 (the step is then that of a mean).
        reg_eps: added to the diagonal of the Gramian, so that the projector's problem is
            definite.
        shared: ``boundary``, ``interval``, ``normalize``, ``private``, as in
            :class:`~lossweave.combiners.GradientCombiner`.

    Raises:
        LossweaveError: preferences that do not fit the terms, ``reg_eps`` not positive, or
            quadprog and qpsolvers not installed.

    Example:
        >>> import torch
        >>> combiner = UPGrad()
        >>> combiner.bind(("cls", "loc"))
        >>> gramian = torch.tensor([[18.0, -22.0], [-22.0, 38.0]], dtype=torch.float64)
        >>> [round(w, 2) for w in combiner.weights_of(gramian)]
        [1.11, 0.79]
    """

    weighting: ClassVar[str] = "UPGradWeighting"
