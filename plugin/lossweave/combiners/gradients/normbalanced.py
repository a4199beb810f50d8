"""Terms whose gradients are brought to given shares of the whole."""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from lossweave.combiners._preference import own
from lossweave.combiners.gradients.base import GradientCombiner
from lossweave.combiners.registry import register_combiner
from lossweave.progress import Progress
from lossweave.utils.fields import above, at_least, between

__all__ = ["NormBalanced", "balanced_weights"]


def balanced_weights(norms: Tensor, shares: Tensor, total: float | None = None) -> Tensor:
    r""":math:`w_k = \frac{r_k}{\sum_j r_j} \frac{R}{n_k}`: the weighted gradients are in the
    ratios r, and R long when laid end to end.

    Args:
        norms: n, the lengths of the gradients, positive, shape ``(K,)``.
        shares: r, shape ``(K,)``.
        total: R; None means the sum of the norms, so that the plain sum's scale stays.

    Example:
        >>> balanced_weights(torch.tensor([1.0, 3.0]), torch.tensor([1.0, 1.0]))
        tensor([2.0000, 0.6667])
    """
    length = norms.sum() if total is None else total
    return shares / shares.sum() * length / norms


@register_combiner
class NormBalanced(GradientCombiner):
    r"""Weights that bring the lengths of the terms' gradients into given ratios:
    :math:`w_k = \frac{r_k}{\sum_j r_j} \frac{R}{\hat n_k}`, with :math:`\hat n_k` the
    exponential average of :math:`\|g_k\|` (the loss balancer of Défossez et al., High Fidelity
    Neural Audio Compression, 2022).

    So ``weights`` say how much each term pulls, whatever the scale of its loss. EnCodec has R = 1;
    here R is by default the sum of the averaged norms, so that the learning rate of the plain sum
    fits. After ``freeze_after`` updates the weights found are kept, and from then on the step is an
    ordinary one.

    The averages move once per optimizer update, by the mean norms of its iterations over all ranks;
    they and the weights are in the checkpoint. EnCodec averages norms per sample and over each
    rank's own gradient; here a norm is that of the mean gradient over all ranks.

    Edge cases: a term that is absent or has a zero row keeps its last weight (1 at first), and
    the others are balanced among themselves.

    Args:
        weights: r, the share of each term, by name or in order; None means equal ones.
        decay: how long norms are remembered, 0.999 as in EnCodec; 0 takes each update's own.
        total_norm: R; None means the sum of the averaged norms.
        freeze_after: optimizer updates after which the weights are kept; None means never.
        boundary: as in :class:`~lossweave.combiners.GradientCombiner`; EnCodec balances at the
            network's output, which 'features' and 'representation' are nearest to.
        interval: optimizer updates between two measurements.
        private: as there; 'weighted', since the weights are ones of whole terms.

    Raises:
        LossweaveError: a share that is not positive, ``decay`` outside [0, 1), ``total_norm`` or
            ``freeze_after`` not positive, or what ``GradientCombiner`` refuses.

    Example:
        >>> combiner = NormBalanced(weights={"cls": 1.0, "loc": 1.0})
        >>> combiner.bind(("cls", "loc"))
        >>> gramian = torch.tensor([[1.0, 0.0], [0.0, 9.0]], dtype=torch.float64)
        >>> [round(w, 4) for w in combiner.weights_of(gramian)]
        [2.0, 0.6667]
    """

    preference = own("its shares rₖ are multiplied by pₖ")

    learns: ClassVar[bool] = True
    single: ClassVar[bool] = False
    weights_now: Tensor
    norm_totals: Tensor
    norm_counts: Tensor
    averages: Tensor
    fixes: Tensor

    def __init__(
        self,
        weights: dict[str, float] | Sequence[float] | float | None = None,
        decay: Annotated[float, between(0, 1)] = 0.999,
        total_norm: Annotated[float, above(0)] | None = None,
        freeze_after: Annotated[int, at_least(1)] | None = None,
        boundary: str | list[str] = "parameters",
        interval: int = 1,
        private: Literal["plain", "weighted"] = "weighted",
    ) -> None:
        super().__init__(boundary=boundary, interval=interval, private=private)
        self.require("decay", decay, 0 <= decay < 1, "0 or more, and below 1")
        if freeze_after is not None:
            allowed = "'weighted' with freeze_after, after which whole terms are weighted"
            self.require("private", private, private == "weighted", allowed)
        self.weights, self.decay, self.total_norm = weights, decay, total_norm
        self.freeze_after = freeze_after
        self._shares: list[float] = []

    def bind(self, terms: Sequence[str]) -> None:
        super().bind(terms)
        self._shares = self.per_term(1.0 if self.weights is None else self.weights, "weights")
        self.require("weights", self.weights, min(self._shares) > 0, "positive")

    def init_state(self, count: int) -> None:
        self.register_buffer("weights_now", torch.ones(count, dtype=torch.float64))
        for name in ("norm_totals", "norm_counts", "averages", "fixes"):
            self.register_buffer(name, torch.zeros(count, dtype=torch.float64))

    @property
    def computes(self) -> bool:
        frozen = self.freeze_after is not None and self.progress.update >= self.freeze_after
        return super().computes and not frozen

    def keep(self, weights: Tensor) -> None:
        """They are kept already."""

    def kept_weights(self, like: Tensor) -> Tensor:
        return self.weights_now.to(like)

    def resting(self) -> Tensor:
        return self.weights_now.cpu().clone()

    def begin(self, progress: Progress) -> None:
        super().begin(progress)
        if progress.first_of_update:
            self.norm_totals.zero_()
            self.norm_counts.zero_()

    def weigh(self, gramian: Tensor, terms: list[int]) -> Tensor:
        names = ("norm_totals", "norm_counts", "averages", "fixes", "weights_now")
        totals, counts, averages, fixes, weights = (
            self.get_buffer(name).cpu().clone() for name in names
        )
        totals[terms] += gramian.diagonal().sqrt()
        counts[terms] += 1
        averages[terms] = self.decay * averages[terms] + totals[terms] / counts[terms]
        fixes[terms] = self.decay * fixes[terms] + 1
        shares = torch.tensor([self._shares[k] for k in terms], dtype=torch.float64)
        shares = shares * self.shares_of(terms)
        found = balanced_weights(averages[terms] / fixes[terms], shares, self.total_norm)
        weights[terms] = found
        self.norm_totals.copy_(totals)
        self.norm_counts.copy_(counts)
        self.move(averages=averages, fixes=fixes, weights_now=weights)
        return found
