"""Gradient normalisation."""

import math
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from lossweave.combiners._preference import own
from lossweave.combiners.adaptive._adam import LARGEST_RATE, BufferAdam
from lossweave.combiners.gradients.base import GradientCombiner
from lossweave.combiners.registry import register_combiner
from lossweave.progress import Progress
from lossweave.utils.fields import at_least

__all__ = ["GradNorm", "grad_norm_slope"]


def grad_norm_slope(
    norms: Tensor, weights: Tensor, ratios: Tensor, alpha: float, shares: Tensor | None = None
) -> Tensor:
    r"""The derivative in w of :math:`\sum_k |w_k \|g_k\| - \bar G p_k r_k^\alpha|`, the target
    :math:`\bar G p_k r_k^\alpha` held constant.

    Args:
        norms: :math:`\|g_k\|`, shape ``(K,)``.
        weights: w, positive, shape ``(K,)``.
        ratios: :math:`L_k / L_k(0)`; r is these divided by their mean. Shape ``(K,)``.
        alpha: how strongly slow terms are pulled up.
        shares: p, brought to a mean of 1; None means 1 each.

    Example:
        >>> one, half = torch.ones(2), torch.tensor([0.5, 1.5])
        >>> grad_norm_slope(torch.tensor([1.0, 3.0]), one, one, alpha=1.5)
        tensor([-1.,  3.])
        >>> grad_norm_slope(torch.ones(2), one, half, alpha=1.0)
        tensor([ 1., -1.])
    """
    lengths = weights * norms
    target = lengths.mean() * (ratios / ratios.mean()) ** alpha
    if shares is not None:
        target = target * shares / shares.mean()
    return torch.sign(lengths - target) * norms


@register_combiner
class GradNorm(GradientCombiner):
    r"""Learned weights that bring the terms' gradients to lengths in proportion to how slowly
    the terms learn: minimises :math:`\sum_k |G_k - \bar G r_k^\alpha|` over w,
    :math:`G_k = \|w_k g_k\|`, :math:`r_k = (L_k / L_k(0)) / \text{mean}`, then scales w to
    the sum K (Chen et al., GradNorm, 2018).

    The weights are stepped by the combiner's own Adam once per optimizer update, from the mean
    norms and losses of the update over all ranks; the step reads norms alone, so it never
    touches the model's gradients. Weights, L(0) and moments are in the checkpoint. In an update
    the weights learned before it are applied.

    Edge cases: a term at 0 or below, absent, or with a zero row keeps its weight, and the others
    share what is left; its L(0) is the first positive loss it has, or the mean of its first
    ``initial_updates``. Weights do not fall below about 0.001.

    Args:
        alpha: how strongly terms that learn slowly are pulled up; 0 makes lengths equal. The
            paper has 0.12 for its synthetic tasks and 1.5 for NYUv2. In two-stage detectors
            L(0) says little of loc, which is near 0 until regions are found and rises first:
            on the demo's Faster R-CNN :math:`r` of cls and loc is 0.14 and 1.86 by then, and 1.5
            leaves cls a weight of about 0.03, at which it hardly learns; 0.12 trains both.
        lr: learning rate of the weights.
        boundary: as in :class:`~lossweave.combiners.GradientCombiner`; the paper measures at the
            last shared layer, which is near 'representation'.
        interval: optimizer updates between two steps of the weights.
        private: as there; 'weighted', since the weights stand before the losses.
        initial_updates: L(0) is the mean of a term's positive losses over so many updates (of those
            so far, while there are fewer). With more than one, a term that is not itself in the
            very first batch, as loc of a two-stage detector, is not measured by it.

    Raises:
        LossweaveError: ``alpha`` or ``lr`` negative, ``initial_updates`` below 1, or what
            ``GradientCombiner`` refuses.

    Example:
        >>> combiner = GradNorm(alpha=0.0, lr=0.1)
        >>> combiner.bind(("cls", "loc"))
        >>> gramian = torch.tensor([[1.0, 0.0], [0.0, 9.0]], dtype=torch.float64)
        >>> combiner.weights_of(gramian)
        [1.0, 1.0]
        >>> combiner.update(torch.ones(2), torch.tensor([True, True]))
        >>> [round(w, 2) for w in combiner.weights.tolist()]
        [1.1, 0.9]
    """

    preference = own("the lengths aimed at are multiplied by pₖ")

    learns: ClassVar[bool] = True
    single: ClassVar[bool] = False
    weights: Tensor
    first_losses: Tensor
    first_counts: Tensor
    losses: Tensor
    norm_totals: Tensor
    norm_counts: Tensor

    def __init__(
        self,
        alpha: float = 0.12,
        lr: float = 0.025,
        boundary: str | list[str] = "parameters",
        interval: int = 1,
        private: Literal["plain", "weighted"] = "weighted",
        initial_updates: Annotated[int, at_least(1)] = 1,
    ) -> None:
        super().__init__(boundary=boundary, interval=interval, private=private)
        self.require("alpha", alpha, 0 <= alpha < math.inf, "finite and not negative")
        self.require("alpha", alpha, alpha <= 100, "at most 100")
        self.require("lr", lr, 0 <= lr < math.inf, "finite and not negative")
        self.require("lr", lr, lr <= LARGEST_RATE, f"at most {LARGEST_RATE}")
        self.alpha, self.lr, self.initial_updates = alpha, lr, initial_updates

    def init_state(self, count: int) -> None:
        self.register_buffer("weights", torch.ones(count, dtype=torch.float64))
        self.register_buffer("first_losses", torch.full((count,), torch.nan, dtype=torch.float64))
        self.register_buffer("losses", torch.full((count,), torch.nan, dtype=torch.float64))
        self.register_buffer("first_counts", torch.zeros(count, dtype=torch.float64))
        self.register_buffer("norm_totals", torch.zeros(count, dtype=torch.float64))
        self.register_buffer("norm_counts", torch.zeros(count, dtype=torch.float64))
        self.adam = BufferAdam(count, self.lr)

    def kept_weights(self, like: Tensor) -> Tensor:
        return self.weights.to(like)

    def keep(self, weights: Tensor) -> None:
        """The learned weights are kept already."""

    def resting(self) -> Tensor:
        return self.weights.cpu().clone()

    def begin(self, progress: Progress) -> None:
        super().begin(progress)
        if progress.first_of_update:  # what an update that was skipped has left
            self._forget_norms()

    @torch.no_grad()
    def update(self, losses: Tensor, present: Tensor) -> None:
        self.losses.copy_(losses.double().masked_fill(~(present & (losses > 0)), torch.nan))
        counts = self.first_counts + 1
        taken = self.losses.isfinite() & (counts <= self.initial_updates)
        mean = torch.lerp(self.first_losses.nan_to_num(0.0), self.losses, 1 / counts)
        self.first_losses.copy_(torch.where(taken, mean, self.first_losses))
        self.first_counts.copy_(torch.where(taken, counts, self.first_counts))
        if self.computes:
            self._step()
        self._forget_norms()

    def _forget_norms(self) -> None:
        self.norm_totals.zero_()
        self.norm_counts.zero_()

    def weigh(self, gramian: Tensor, terms: list[int]) -> Tensor:
        rows = torch.tensor(terms, device=self.norm_totals.device)
        norms = gramian.diagonal().sqrt().to(self.norm_totals)
        self.norm_totals.index_add_(0, rows, norms)
        self.norm_counts.index_add_(0, rows, torch.ones_like(norms))
        return self.weights.cpu()[terms]

    def _step(self) -> None:
        norms = self.norm_totals / self.norm_counts.clamp(min=1)
        ratios = self.losses / self.first_losses
        known = (self.norm_counts > 0) & (ratios > 0) & ratios.isfinite()
        chosen = known.nonzero().flatten()
        if len(chosen) < 2:  # there is nothing to balance
            return
        slope = torch.zeros_like(norms)
        slope[chosen] = grad_norm_slope(
            norms[chosen], self.weights[chosen], ratios[chosen], self.alpha,
            None if self.prefer is None else self.importance_vector.to(norms)[chosen],
        )  # fmt: skip
        # Lengths relative to the mean one: Adam's step does not depend on their scale, but its
        # guard against division by zero does.
        slope = slope / norms[chosen].mean()
        stepped = self.adam.step(self.weights, slope, known).clamp(min=1e-3)
        stepped = stepped * self.weights[chosen].sum() / stepped[chosen].sum()
        self.weights.copy_(torch.where(known, stepped, self.weights))
