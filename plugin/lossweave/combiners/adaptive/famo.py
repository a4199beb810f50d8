"""Fast adaptive multitask optimization."""

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from lossweave.combiners._numerics import normalized_weights, tainted
from lossweave.combiners._preference import own
from lossweave.combiners.adaptive._adam import LARGEST_RATE, BufferAdam
from lossweave.combiners.base import Combined, Combiner
from lossweave.combiners.registry import register_combiner

__all__ = ["FAMO", "famo_weights"]

_EPS = 1e-8


def famo_weights(shifted: Tensor, logits: Tensor, mask: Tensor) -> Tensor:
    r"""The weights :math:`d_k = \frac{z_k / \ell_k}{\sum_j z_j / \ell_j}`,
    :math:`z = \mathrm{softmax}(w)`: the derivatives of :math:`c \sum_k z_k \log \ell_k` with
    the constant c that makes them add up to 1.

    Args:
        shifted: the positive losses above their lower bound, shape ``(K,)``.
        logits: w, shape ``(K,)``.
        mask: the terms that take part, boolean ``(K,)``.

    Example:
        >>> mask = torch.tensor([True, True])
        >>> famo_weights(torch.tensor([1.0, 2.0]), torch.zeros(2), mask)
        tensor([0.6667, 0.3333])
    """
    # In the logarithm, so that neither tiny nor huge losses leave the number format.
    return normalized_weights(torch.log_softmax(logits, dim=0) - shifted.log(), mask)


@register_combiner
class FAMO(Combiner):
    r"""Lowers all losses at an equal RATE, from their values alone (Liu et al., FAMO: Fast
    Adaptive Multitask Optimization, 2023).

    :math:`c \sum_k z_k \log(L_k - b_k + \epsilon)` with :math:`z = \mathrm{softmax}(w)`, where
    c, a constant, makes the weights add up to 1. The logits w then learn from how much each
    loss fell across an update, :math:`\delta_k = \log \ell_k^{before} - \log \ell_k^{after}`,
    by the combiner's own Adam. By default ``after`` is the loss of the NEXT update's batch,
    at no cost, so what an update teaches takes effect one update late; ``recompute=True``
    runs the same batch once more without gradients, as the paper's Algorithm 2 does.

    Formula and defaults are TorchJD's, whose ``state_dict`` omits the optimizer.

    Edge cases: a term at its bound or below takes no part in this update (weight 0) and its
    logit stays, as does an absent term's. Weights lie in [0, 1]. Computed in logarithms:
    finite wherever the losses are, but for a value beyond the number format (the value is
    the reference loss times its logarithm).

    Args:
        lr: learning rate of w.
        weight_decay: the paper's regularization of w.
        min_losses: the lower bound b per term, by name or in order; None means 0.
        recompute: measure ``after`` on the same batch (one more forward per update).

    Raises:
        LossweaveError: ``lr`` or ``weight_decay`` negative, or bounds that do not fit.

    Example:
        >>> combiner = FAMO()
        >>> combiner.bind(("cls", "loc"))
        >>> combiner.combine(torch.tensor([1.0, 2.0]), torch.tensor([True, True])).weights
        tensor([0.6667, 0.3333])
    """

    preference = own("the losses are to fall at rates in the ratio pₖ")

    learns: ClassVar[bool] = True
    logits: Tensor
    previous: Tensor
    bounds: Tensor

    def __init__(
        self,
        lr: float = 0.025,
        weight_decay: float = 1e-3,
        min_losses: dict[str, float] | Sequence[float] | float | None = None,
        recompute: bool = False,
    ) -> None:
        super().__init__()
        for name, value in (("lr", lr), ("weight_decay", weight_decay)):
            self.require(name, value, 0 <= value < math.inf, "finite and not negative")
            self.require(name, value, value <= LARGEST_RATE, f"at most {LARGEST_RATE}")
        self.lr, self.weight_decay, self.min_losses = lr, weight_decay, min_losses
        self.recompute = recompute

    @property
    def needs_hook(self) -> bool:
        return self.recompute

    def bind(self, terms: Sequence[str]) -> None:
        super().bind(terms)
        bounds = 0.0 if self.min_losses is None else self.min_losses
        self.constant("bounds", self.per_term(bounds, "min_losses"))

    def init_state(self, count: int) -> None:
        self.register_buffer("logits", torch.zeros(count))
        self.register_buffer("previous", torch.full((count,), torch.nan))
        self.adam = BufferAdam(count, self.lr, weight_decay=self.weight_decay)

    def combine(self, losses: Tensor, present: Tensor) -> Combined:
        above = losses - self.bounds.to(losses.dtype)
        mask = present & ~(above <= 0)
        shifted = torch.where(mask, above, torch.ones_like(above)) + _EPS
        logits = self.logits.to(losses.dtype)
        weights = famo_weights(shifted, logits, mask)
        # The value c * sum z log l, with c = 1 / sum(z / l) taken through the same logarithms.
        log_z = torch.log_softmax(logits.masked_fill(~mask, -torch.inf), dim=0)
        ratios = torch.where(mask, log_z - shifted.log(), torch.full_like(above, -torch.inf))
        c = torch.exp(-torch.logsumexp(ratios, dim=0)).masked_fill(~mask.any(), 0)
        terms = torch.where(mask, log_z.exp() * shifted.log(), torch.zeros_like(above))
        return Combined(tainted(c * terms.sum(), losses, present), weights)

    def update(self, losses: Tensor, present: Tensor) -> None:
        if not self.recompute:
            self.relearn(losses, present)
        above = losses - self.bounds.to(losses.dtype)
        known = present & (above > 0)
        self.previous.copy_((above + _EPS).log().masked_fill(~known, torch.nan))

    def relearn(self, after: Tensor, present: Tensor) -> None:
        """Step the logits from the losses measured after an optimizer update.

        Args:
            after: the losses, averaged over the ranks, shape ``(K,)``.
            present: which terms there are, boolean ``(K,)``.
        """
        above = after - self.bounds.to(after.dtype)
        delta = self.previous - (above.clamp(min=0) + _EPS).log()
        if self.prefer is not None:
            delta = delta / self.importance_vector.to(delta.dtype)
        known = present & (above > 0) & delta.isfinite()
        delta = torch.where(known, delta, torch.zeros_like(delta)).to(self.logits.dtype)
        # Among the measured terms alone: where there is one, nothing is to be balanced.
        weights = normalized_weights(self.logits, known)
        # The vector-Jacobian product of the softmax with delta.
        grad = weights * (delta - (weights * delta).sum())
        stepped = self.adam.step(self.logits, grad, known)
        self.logits.copy_(stepped)
