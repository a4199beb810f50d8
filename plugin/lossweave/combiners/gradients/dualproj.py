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
        >>> combiner = DualProj()
        >>> combiner.bind(("cls", "loc"))
        >>> gramian = torch.tensor([[18.0, -22.0], [-22.0, 38.0]], dtype=torch.float64)
        >>> [round(w, 2) for w in combiner.weights_of(gramian)]
        [0.61, 0.5]
    """

    weighting: ClassVar[str] = "DualProjWeighting"
