"""Every term brought to the size of a reference term."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lossweave.combiners.base import Combined, Combiner
from lossweave.combiners.registry import register_combiner

__all__ = ["RatioAligned"]


@register_combiner
class RatioAligned(Combiner):
    r"""The reference term plus every other one scaled to its size:
    :math:`L_r + \sum_{k \ne r} L_k / (L_k / L_r).\mathrm{detach}()`.

    The weights are :math:`|L_r / L_k|`. Rank and Sort Loss balances its boxes so (Oksuz et
    al., 2021).

    Edge cases: where the ratio is undefined (the term, the reference or both at 0, or the
    reference absent) the weight is 1; below 0 magnitudes are compared; a ratio that does not
    fit the number format is cut at its largest number.

    Args:
        reference: name of the reference term; None means the first.

    Raises:
        LossweaveError: there is no such term.

    Example:
        >>> import torch
        >>> combiner = RatioAligned(reference="cls")
        >>> combiner.bind(("cls", "loc"))
        >>> combiner.combine(torch.tensor([1.0, 4.0]), torch.tensor([True, True]))
        Combined(value=tensor(2.), weights=tensor([1.0000, 0.2500]))
    """

    def __init__(self, reference: str | None = None) -> None:
        super().__init__()
        self.reference = reference
        self._index = 0

    def bind(self, terms: Sequence[str]) -> None:
        super().bind(terms)
        if self.reference is not None:
            self._index = self.index_of(self.reference, "reference")

    def combine(self, losses: Tensor, present: Tensor) -> Combined:
        reference, sizes = losses[self._index].abs(), losses.abs()
        defined = (sizes > 0) & (reference > 0)
        ratios = reference / torch.where(defined, sizes, torch.ones_like(sizes))
        ratios = ratios.clamp(max=torch.finfo(losses.dtype).max)
        weights = torch.where(defined, ratios, torch.ones_like(ratios)).masked_fill(~present, 0)
        # A nan must reach the caller, not become a weight of 1.
        weights = torch.where(losses.isnan() | reference.isnan(), losses + reference, weights)
        return Combined((weights * losses).sum(), weights)
