"""Penalty-based boundary intersection."""

from collections.abc import Sequence
from typing import Annotated

from torch import Tensor

from lossweave.combiners._numerics import tainted, tiny
from lossweave.combiners._preference import refused
from lossweave.combiners.base import Combined, Combiner
from lossweave.combiners.registry import register_combiner
from lossweave.utils.fields import at_least

__all__ = ["PBI", "boundary_intersection"]

#: Added to the squared distance from the ray, where its root has no derivative, as in TorchJD.
_EPS = 1e-12


def boundary_intersection(losses: Tensor, preference: Tensor, theta: float) -> Combined:
    r""":math:`d_1 + \theta d_2` with :math:`d_1 = L \cdot \hat r` along a ray and
    :math:`d_2 = \|L - d_1 \hat r\|` from it, and its derivatives
    :math:`\hat r_k + \theta (L - d_1 \hat r)_k / d_2`.

    Args:
        losses: shape ``(K,)``.
        preference: r, shape ``(K,)``.
        theta: :math:`\theta`.

    Example:
        >>> import torch
        >>> boundary_intersection(torch.tensor([3.0, 4.0]), torch.tensor([1.0, 0.0]), 0.5)
        Combined(value=tensor(5.), weights=tensor([1.0000, 0.5000]))
    """
    ray = preference / preference.norm().clamp(min=tiny(losses))
    along = (losses * ray).sum()
    aside = losses - along * ray
    # Scaled, where they are large, so that their squares fit.
    size = aside.abs().max().clamp(min=1)
    distance = ((aside / size).square().sum() + _EPS / size / size).sqrt() * size
    return Combined(along + theta * distance, ray + theta * aside / distance)


@register_combiner
class PBI(Combiner):
    r"""How far the losses are along a ray of preference, and by ``theta`` how far from it:
    :math:`d_1 + \theta d_2` of :func:`boundary_intersection` (Zhang and Li, MOEA/D, 2007).

    Named and parametrised as TorchJD's ``PBI``. On the ray the losses are in the ratios of r, so
    it asks for a trade-off of VALUES, which a weighted sum cannot.

    Edge cases: a term that is smaller than the ray asks for has a NEGATIVE weight once
    ``theta`` outweighs its share, so that it is pushed up. Terms at 0 and below are shifted and
    compared as they are; absent ones take no part; nothing overflows before the losses do.

    Args:
        theta: penalty for leaving the ray; 0 is a weighted sum. The paper uses 5.
        weights: r, the preference per term, by name or in order; None means equal ones.
        reference: the ideal value per term, by name or in order; None means 0.

    Raises:
        LossweaveError: ``theta`` or a weight negative, weights all 0, or what does not fit the
            terms.

    Example:
        >>> import torch
        >>> combiner = PBI(theta=0.5, weights=[1.0, 0.0])
        >>> combiner.bind(("cls", "loc"))
        >>> combiner.combine(torch.tensor([3.0, 4.0]), torch.tensor([True, True]))
        Combined(value=tensor(5.), weights=tensor([1.0000, 0.5000]))
    """

    preference = refused(
        "its ray says in which ratio the losses should be, not how important they are; give weights"
    )

    ray: Tensor
    ideal: Tensor

    def __init__(
        self,
        theta: Annotated[float, at_least(0)] = 5.0,
        weights: dict[str, float] | Sequence[float] | float | None = None,
        reference: dict[str, float] | Sequence[float] | float | None = None,
    ) -> None:
        super().__init__()
        self.theta, self.weights, self.reference = theta, weights, reference

    def bind(self, terms: Sequence[str]) -> None:
        super().bind(terms)
        shares = self.per_term(1.0 if self.weights is None else self.weights, "weights")
        fine = min(shares) >= 0 and sum(shares) > 0
        self.require("weights", self.weights, fine, "not negative, and not all 0")
        self.constant("ray", shares)
        ideal = 0.0 if self.reference is None else self.reference
        self.constant("ideal", self.per_term(ideal, "reference"))

    def combine(self, losses: Tensor, present: Tensor) -> Combined:
        shifted = (losses - self.ideal.to(losses.dtype)).masked_fill(~present, 0)
        preference = self.ray.to(losses.dtype).masked_fill(~present, 0)
        value, weights = boundary_intersection(shifted, preference, self.theta)
        value = tainted(value.masked_fill(~present.any(), 0), losses, present)
        return Combined(value, weights.masked_fill(~present, 0))
