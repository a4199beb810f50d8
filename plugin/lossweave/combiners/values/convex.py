"""A convex combination of the terms."""

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from lossweave.combiners._preference import own
from lossweave.combiners.base import Combined, Combiner
from lossweave.combiners.registry import register_combiner
from lossweave.errors import LossweaveError

__all__ = ["Convex"]


@register_combiner
class Convex(Combiner):
    r"""The convex combination :math:`\alpha L_1 + (1 - \alpha) L_2`.

    For more than two terms ``alpha`` lists one share per term, adding up to 1; for a single
    term the share is 1.

    Edge cases: linear, as :class:`~lossweave.combiners.Sum`. An absent term's share is
    left unused: the others keep theirs.

    Args:
        alpha: the first term's share in [0, 1], or a list of shares that add up to 1.

    Raises:
        LossweaveError: shares outside [0, 1], not adding up to 1, or not one per term.

    Example:
        >>> import torch
        >>> combiner = Convex(alpha=0.25)
        >>> combiner.bind(("cls", "loc"))
        >>> combiner.combine(torch.tensor([4.0, 8.0]), torch.tensor([True, True])).value
        tensor(7.)
    """

    preference = own("its shares are multiplied by pₖ, and add up to 1 again")

    linear: ClassVar[bool] = True
    weight_vector: Tensor

    def __init__(self, alpha: float | Sequence[float] = 0.5) -> None:
        super().__init__()
        shares = [alpha, 1 - alpha] if isinstance(alpha, (int, float)) else list(alpha)
        fine = all(0 <= share <= 1 for share in shares) and abs(sum(shares) - 1) <= 1e-6
        self.require("alpha", alpha, fine, "a share in [0, 1], or shares that add up to 1")
        self.alpha = alpha
        self.shares = [float(share) for share in shares]

    def bind(self, terms: Sequence[str]) -> None:
        super().bind(terms)
        if len(terms) == 1 and isinstance(self.alpha, (int, float)):
            self.shares = [1.0]
        if len(self.shares) != len(terms):
            raise LossweaveError(
                f"Convex: alpha has {len(self.shares)} shares for the {len(terms)} terms "
                f"{list(terms)}; list one share per term"
            )
        shares = [p * share for p, share in zip(self.importances, self.shares, strict=True)]
        total = sum(shares) if self.prefer is not None else 1.0
        self.constant("weight_vector", [share / total for share in shares])

    def combine(self, losses: Tensor, present: Tensor) -> Combined:
        weights = self.weight_vector.to(losses.dtype).masked_fill(~present, 0)
        return Combined((weights * losses).sum(), weights)
