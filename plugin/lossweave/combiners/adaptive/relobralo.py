"""Relative loss balancing with random lookback."""

from typing import Annotated, ClassVar

import torch
from torch import Tensor

from lossweave.combiners._numerics import normalized_weights, tiny
from lossweave.combiners._random import uniform_for
from lossweave.combiners.base import Combined, Combiner
from lossweave.combiners.registry import register_combiner
from lossweave.utils.fields import above, between

__all__ = ["ReLoBRaLo", "relative_weights"]


def relative_weights(
    losses: Tensor, earlier: Tensor, mask: Tensor, temperature: float
) -> Tensor:
    r""":math:`\hat\lambda_k = m \, \mathrm{softmax}_k(L_k / (T L'_k))` over the m terms of the
    mask; a ratio that is not known counts as 1.

    Args:
        losses: shape ``(K,)``, positive where ``mask``.
        earlier: L', those to compare with; nan where not known.
        mask: boolean ``(K,)``.
        temperature: T.

    Example:
        >>> earlier, mask = torch.tensor([1.0, 4.0]), torch.tensor([True, True])
        >>> relative_weights(torch.tensor([1.0, 2.0]), earlier, mask, temperature=1.0)
        tensor([1.2449, 0.7551])
    """
    known = mask & (earlier > 0)
    one = torch.ones_like(losses)
    ratios = torch.where(known, losses, one) / torch.where(known, earlier, one)
    exponents = (ratios / temperature).clamp(max=torch.finfo(losses.dtype).max)
    return mask.sum() * normalized_weights(exponents, mask)


@register_combiner
class ReLoBRaLo(Combiner):
    r"""Terms that have fallen least weigh most, smoothed over time, with a look back at the
    beginning now and then: :math:`\sum_k \mathrm{sg}(\lambda_k) L_k`,

    :math:`\lambda(t) = \alpha \, (\rho \lambda(t-1) + (1 - \rho) \hat\lambda(t; 0))
    + (1 - \alpha) \, \hat\lambda(t; t-1)`

    with :func:`relative_weights` against the first losses and against the last update's, and
    :math:`\rho` drawn in every update, 1 with probability ``rho``, else 0 (Bischof and Kraus,
    Multi-Objective Loss Balancing for Physics-Informed Deep Learning, 2021).

    Weights add up to K where all terms are there. The authors' code has :math:`\rho` = 1 always
    in one of its rules; the paper's formula is taken here. The draws follow from (seed, update).

    Edge cases: a term at 0 or below, or not finite, keeps its weight and takes no part in the
    others'; an absent term's weight waits. A term that comes late is compared with the first
    positive loss it has.

    Args:
        temperature: T; smaller makes the weights more unequal.
        alpha: how long weights are remembered.
        rho: probability of going on from the last weights, not from a look back.
        seed: seed of the draws.

    Raises:
        LossweaveError: ``temperature`` not positive, ``alpha`` or ``rho`` outside [0, 1].

    Example:
        >>> combiner = ReLoBRaLo(alpha=0.0, temperature=1.0)
        >>> combiner.bind(("cls", "loc"))
        >>> present = torch.tensor([True, True])
        >>> combiner.update(torch.tensor([1.0, 4.0]), present)
        >>> combiner.combine(torch.tensor([1.0, 2.0]), present).weights
        tensor([1.2449, 0.7551])
    """

    learns: ClassVar[bool] = True
    scheduled: ClassVar[bool] = True
    lambdas: Tensor
    first: Tensor
    last: Tensor

    def __init__(
        self,
        temperature: Annotated[float, above(0)] = 0.1,
        alpha: Annotated[float, between(0, 1)] = 0.999,
        rho: Annotated[float, between(0, 1)] = 0.999,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.temperature, self.alpha, self.rho, self.seed = temperature, alpha, rho, seed

    def init_state(self, count: int) -> None:
        self.register_buffer("lambdas", torch.ones(count))
        for name in ("first", "last"):
            self.register_buffer(name, torch.full((count,), torch.nan))

    def looks_back(self) -> bool:
        """Whether the weights of this update start from the first losses."""
        return uniform_for(self.seed, self.progress.update) >= self.rho

    def weights_for(self, losses: Tensor, present: Tensor) -> Tensor:
        """:math:`\\lambda(t)` for these losses, shape ``(K,)``."""
        mask = _known(losses, present)
        kept = self.lambdas.to(losses.dtype)
        if self.looks_back():
            kept = relative_weights(losses, self.first.to(losses.dtype), mask, self.temperature)
        recent = relative_weights(losses, self.last.to(losses.dtype), mask, self.temperature)
        mixed = self.alpha * kept + (1 - self.alpha) * recent
        return torch.where(mask, mixed, self.lambdas.to(losses.dtype))

    def combine(self, losses: Tensor, present: Tensor) -> Combined:
        weights = self.weights_for(losses, present).masked_fill(~present, 0)
        return Combined((weights * losses).masked_fill(~present, 0).sum(), weights)

    def update(self, losses: Tensor, present: Tensor) -> None:
        known = _known(losses, present)
        self.lambdas.copy_(self.weights_for(losses, present))
        self.first.copy_(torch.where(known & self.first.isnan(), losses, self.first))
        self.last.copy_(torch.where(known, losses, self.last))


def _known(losses: Tensor, present: Tensor) -> Tensor:
    return present & (losses > tiny(losses)) & losses.isfinite()
