"""Conflict-free inverse gradients."""

import torch
from torch import Tensor

from lossweave.combiners.gradients._torchjd import unit_trace
from lossweave.combiners.gradients.base import PreferringCombiner
from lossweave.combiners.registry import register_combiner

__all__ = ["ConFIG", "config_weights"]


def config_weights(gramian: Tensor, preference: Tensor) -> Tensor:
    r"""The weights of ConFIG's combined gradient.

    With the rows' unit vectors :math:`U = D^{-1} J` the direction is :math:`U^{+} p = U^\top (U
    U^\top)^{+} p`, a combination of the rows, so the Gramian is all that is needed. (The
    pseudo-inverse of U itself loses every direction in float32 once there are some millions of
    columns: its cut-off grows with their number.)

    Args:
        gramian: of nonzero rows, float64, shape ``(m, m)``.
        preference: p, shape ``(m,)``.

    Example:
        >>> gramian = torch.tensor([[4.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
        >>> config_weights(gramian, torch.ones(2, dtype=torch.float64))
        tensor([0.7500, 1.5000], dtype=torch.float64)
    """
    norms = gramian.diagonal().sqrt()
    cosines = gramian / torch.outer(norms, norms)
    direction = torch.linalg.pinv(cosines, hermitian=True) @ preference / norms
    pulled = gramian @ direction
    square = direction @ pulled
    if square <= 0:
        return torch.zeros_like(direction)
    return direction * pulled.sum() / square


@register_combiner
class ConFIG(PreferringCombiner):
    r"""The direction that has the same cosine with every gradient, as long as their
    projections on it together: :math:`d = U^{+} p`, :math:`\sum_k (g_k \cdot \hat d) \, \hat
    d` (Liu et al., ConFIG: Towards Conflict-free Training of Physics Informed Neural Networks,
    2024).

    Without conflict it is about as long as the plain sum.

    Edge cases: zero rows and absent terms are left out. Gradients that are exactly opposed have
    no such direction: the weights are 0.

    Args:
        pref_vector: preference of each term, by name or in their order; None means 1 each.
        shared: ``boundary``, ``interval``, ``normalize``, ``private``, ``momentum``, as in
            :class:`~lossweave.combiners.GradientCombiner`.

    Raises:
        LossweaveError: preferences that do not fit the terms.

    Example:
        >>> combiner = ConFIG()
        >>> combiner.bind(("cls", "loc"))
        >>> combiner.weights_of(torch.tensor([[4.0, 0.0], [0.0, 1.0]]).double())
        [0.75, 1.5]
    """

    def weigh(self, gramian: Tensor, terms: list[int]) -> Tensor:
        preference = self.preferences(terms)
        if preference is None:
            preference = torch.ones(len(terms), dtype=torch.float64)
        return config_weights(unit_trace(gramian), preference)
