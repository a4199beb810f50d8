"""Fixed powers of ten that bring the terms to one order of magnitude."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from lossweave.combiners._numerics import tiny
from lossweave.combiners.base import Combined, Combiner
from lossweave.combiners.registry import register_combiner

__all__ = ["MagnitudeMatched", "matching_exponents"]

_LARGEST = 30  # so that float32 holds the power, and a sum of losses that it scales


def matching_exponents(means: Tensor, reference: Tensor) -> Tensor:
    r"""The exponents :math:`k_i = \mathrm{round}(\log_{10}(L_r / L_i))`, 0 where undefined,
    within [-30, 30].

    Args:
        means: mean losses, shape ``(K,)``.
        reference: the mean of the reference term, shape ``()``.

    Example:
        >>> matching_exponents(torch.tensor([1.0, 0.011, 250.0]), torch.tensor(1.0))
        tensor([ 0.,  2., -2.])
    """
    defined = (means > tiny(means)) & (reference > tiny(means))
    defined = defined & means.isfinite() & reference.isfinite()
    one = torch.ones_like(means)
    logs = torch.where(defined, reference, one).log10() - torch.where(defined, means, one).log10()
    return logs.round().clamp(-_LARGEST, _LARGEST)


@register_combiner
class MagnitudeMatched(Combiner):
    r"""The sum :math:`\sum_i 10^{k_i} L_i`, with each k picked on the first updates, then left.

    :math:`k_i = \mathrm{round}(\log_{10}(\bar L_r / \bar L_i))`, from the means over the first
    ``updates`` optimizer updates in which a term was positive. Until then k follows the
    running mean (0 in the very first update).

    Edge cases: a term at 0, below 0, not finite or absent is not counted for picking k, so
    one that comes late is matched then; once picked, the sum is linear. k stays 0 until both
    the term and the reference have been seen, and within [-30, 30].

    Args:
        reference: name of the term that sets the magnitude; None means the first.
        updates: optimizer updates over which the means are taken.

    Raises:
        LossweaveError: there is no such term; ``updates`` below 1.

    Example:
        >>> combiner = MagnitudeMatched(reference="cls", updates=1)
        >>> combiner.bind(("cls", "loc"))
        >>> losses, present = torch.tensor([1.0, 0.02]), torch.tensor([True, True])
        >>> combiner.update(losses, present)
        >>> combiner.combine(losses, present).weights
        tensor([  1., 100.])
    """

    learns: ClassVar[bool] = True
    totals: Tensor
    counts: Tensor

    def __init__(self, reference: str | None = None, updates: int = 10) -> None:
        super().__init__()
        self.require("updates", updates, updates >= 1, "at least 1")
        self.reference, self.updates = reference, updates
        self._index = 0

    def bind(self, terms: Sequence[str]) -> None:
        super().bind(terms)
        if self.reference is not None:
            self._index = self.index_of(self.reference, "reference")

    def init_state(self, count: int) -> None:
        self.register_buffer("totals", torch.zeros(count))
        self.register_buffer("counts", torch.zeros(count))

    def combine(self, losses: Tensor, present: Tensor) -> Combined:
        means = self.totals / self.counts.clamp(min=1)
        exponents = matching_exponents(means, means[self._index])
        weights = torch.pow(10.0, exponents).to(losses.dtype).masked_fill(~present, 0)
        return Combined((weights * losses).sum(), weights)

    def update(self, losses: Tensor, present: Tensor) -> None:
        counted = present & (losses > 0) & losses.isfinite() & (self.counts < self.updates)
        self.totals += torch.where(counted, losses, torch.zeros_like(losses)).to(self.totals.dtype)
        self.counts += counted
