"""The plain or weighted sum."""

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from lossweave.combiners._preference import own
from lossweave.combiners.base import Combined, Combiner
from lossweave.combiners.registry import register_combiner

__all__ = ["Sum"]


@register_combiner
class Sum(Combiner):
    r"""The weighted sum :math:`\sum_k w_k L_k`: what every detector does, with :math:`w_k = 1`.

    With unit weights the framework's own reduction is used, so training is the stock
    training bit for bit. A sum tuned over its weights is the baseline to beat (Kurin et al.,
    In Defense of the Unitary Scalarization, 2022).

    Edge cases: linear, so a term at 0 or below contributes as it is, and the sum overflows
    only where it exceeds the number format.

    Args:
        weights: one factor per term, as a dict by term name, a list in their order, or one
            number for all; None means 1.

    Raises:
        LossweaveError: weights for unknown terms, not one per term, or none above 0.

    Example:
        >>> import torch
        >>> combiner = Sum(weights={"cls": 1.0, "loc": 2.0})
        >>> combiner.bind(("cls", "loc"))
        >>> combiner.combine(torch.tensor([1.0, 3.0]), torch.tensor([True, True])).value
        tensor(7.)
    """

    preference = own("its weights are multiplied by pₖ")

    linear: ClassVar[bool] = True
    weight_vector: Tensor

    def __init__(self, weights: dict[str, float] | Sequence[float] | float | None = None) -> None:
        super().__init__()
        self.weights = weights
        self.factors: list[float] = []

    def bind(self, terms: Sequence[str]) -> None:
        super().bind(terms)
        asked = self.per_term(1.0 if self.weights is None else self.weights, "weights")
        self.factors = [p * w for p, w in zip(self.importances, asked, strict=True)]
        fine = any(factor > 0 for factor in self.factors)
        self.require("weights", self.weights, fine, "above 0 for one term at least")
        self.constant("weight_vector", self.factors)

    @property
    def is_plain(self) -> bool:
        """Whether all weights are 1, i.e. whether this is the framework's own sum."""
        return all(factor == 1.0 for factor in self.factors)

    def combine(self, losses: Tensor, present: Tensor) -> Combined:
        weights = self.weight_vector.to(losses.dtype).masked_fill(~present, 0)
        return Combined((weights * losses).sum(), weights)
