"""Weights by the terms' coefficients of variation."""

from typing import ClassVar

import torch
from torch import Tensor

from lossweave.combiners.base import Combined, Combiner
from lossweave.combiners.registry import register_combiner

__all__ = ["CoV", "variation_weights"]

#: Added to the variance, as in the authors' code.
_EPS = 1e-8


def variation_weights(
    means: Tensor, squares: Tensor, counts: Tensor, present: Tensor
) -> Tensor:
    r""":math:`w_k = c_k / \sum_j c_j` with the coefficients of variation
    :math:`c_k = \sqrt{S_k / t_k + 10^{-8}} / \mu_k` of the loss ratios.

    A term with fewer than two ratios has none yet, and takes an equal share; those that have
    divide the rest.

    Args:
        means: :math:`\mu`, means of the loss ratios, shape ``(K,)``.
        squares: S, sums of their squared deviations.
        counts: t, how many there are.
        present: boolean ``(K,)``.

    Example:
        >>> counts, present = torch.tensor([2.0, 2.0]), torch.tensor([True, True])
        >>> variation_weights(torch.ones(2), torch.tensor([2.0, 8.0]), counts, present)
        tensor([0.3333, 0.6667])
    """
    known = present & (counts >= 2)
    spread = (squares / counts.clamp(min=1) + _EPS).sqrt() / means
    spread = torch.where(known, spread, torch.zeros_like(spread))
    total = spread.sum()
    share = 1 / present.sum().clamp(min=1)
    rest = known.sum() * share
    shared = spread / torch.where(total > 0, total, torch.ones_like(total)) * rest
    return torch.where(known, shared, share.to(shared)).masked_fill(~present, 0)


@register_combiner
class CoV(Combiner):
    r"""Terms whose loss varies more, relative to its mean, weigh more: :math:`\sum_k w_k L_k`,
    :math:`w_k = c_k / \sum_j c_j`, with :math:`c_k = \sigma_k / \mu_k` of the ratios
    :math:`\ell_k(t) = L_k(t) / \bar L_k(t-1)` (Groenendijk et al., Multi-Loss Weighting with
    Coefficient of Variations, 2021).

    The ratio of a loss to its own mean so far is free of its scale; a term that falls, or
    fluctuates, is taken to be one that learns. The moments are Welford's, over all updates so far;
    an update's weights follow from the updates before it, and are equal in the first two. The
    weights add up to 1, so against the plain sum of K terms the step is some K times shorter.

    Formula and constants are those of the authors' code, which can also let the mean decay.

    Edge cases: linear; a term at 0, below 0, absent or not finite teaches nothing in that update.
    One that comes late takes an equal share until its second update.

    Example:
        >>> combiner = CoV()
        >>> combiner.bind(("cls", "loc"))
        >>> combiner.combine(torch.tensor([1.0, 2.0]), torch.tensor([True, True]))
        Combined(value=tensor(1.5000), weights=tensor([0.5000, 0.5000]))
    """

    learns: ClassVar[bool] = True
    counts: Tensor
    mean_losses: Tensor
    mean_ratios: Tensor
    squares: Tensor

    def init_state(self, count: int) -> None:
        # In double precision: the squares of ratios of 1e30 do not fit float32.
        for name in ("counts", "mean_losses", "mean_ratios", "squares"):
            self.register_buffer(name, torch.zeros(count, dtype=torch.float64))

    def combine(self, losses: Tensor, present: Tensor) -> Combined:
        weights = variation_weights(self.mean_ratios, self.squares, self.counts, present)
        weights = weights.to(losses.dtype)
        return Combined((weights * losses).masked_fill(~present, 0).sum(), weights)

    def update(self, losses: Tensor, present: Tensor) -> None:
        losses = losses.double()
        known = present & (losses > 0) & losses.isfinite()
        first = self.counts == 0
        counts = self.counts + 1
        means = torch.where(first, losses, self.mean_losses)
        ratios = losses / torch.where(known, means, torch.ones_like(means))
        mean_ratios = torch.lerp(self.mean_ratios, ratios, 1 / counts)
        squares = self.squares + (ratios - self.mean_ratios) * (ratios - mean_ratios)
        mean_losses = torch.lerp(self.mean_losses, losses, 1 / counts)
        for old, new in ((self.counts, counts), (self.mean_losses, mean_losses),
                         (self.mean_ratios, mean_ratios), (self.squares, squares)):  # fmt: skip
            old.copy_(torch.where(known, new, old))
