"""Gradient sign dropout."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import Unpack

from lossweave.combiners._preference import own
from lossweave.combiners._random import generator_for
from lossweave.combiners.gradients.base import GradientCombiner, Shared
from lossweave.combiners.registry import register_combiner
from lossweave.errors import LossweaveError

__all__ = ["GradDrop", "sign_dropout"]


def sign_dropout(rows: Tensor, drawn: Tensor, leak: Tensor) -> Tensor:
    r"""Keep, in each element, the rows of one sign, drawn by how much of them has it.

    :math:`P = \frac12 (1 + \sum_k g_k / \sum_k |g_k|)`; the positive rows stay where :math:`P >
    U`, the negative ones where :math:`P < U`, and the share :math:`\ell_k` of each anyway.

    Args:
        rows: shape ``(K, n)``.
        drawn: U, uniform in [0, 1), shape ``(n,)``.
        leak: shape ``(K,)``.

    Returns:
        The combined gradient, shape ``(n,)``.

    Example:
        >>> rows = torch.tensor([[1.0, 3.0], [2.0, -1.0]])
        >>> sign_dropout(rows, torch.tensor([0.9, 0.8]), torch.zeros(2))
        tensor([ 3., -1.])
    """
    total = rows.abs().sum(0)
    purity = 0.5 * (1 + rows.sum(0) / torch.where(total > 0, total, torch.ones_like(total)))
    stays = torch.where(rows > 0, purity > drawn, purity < drawn)
    share = torch.where(stays, torch.ones_like(rows), leak[:, None].to(rows).expand_as(rows))
    return (share * rows).sum(0)


@register_combiner
class GradDrop(GradientCombiner):
    r"""In every element of the gradient one sign is drawn, by how pure the terms' signs are,
    and terms of the other sign are dropped (Chen et al., Just Pick a Sign, 2020):
    :func:`sign_dropout`.

    There are no weights of whole terms (1 is what is logged). The draws follow from (seed,
    update) and the tensor, at features from the rank, too, since those are the rank's own.

    Edge cases: a zero or absent row takes no part; where all agree in sign it is the plain sum.

    Args:
        leak: share of each term that is never dropped, in [0, 1], by name, in their order, or
            one for all.
        seed: seed of the draws.
        shared: ``boundary``, ``normalize``, ``private``, as in
            :class:`~lossweave.combiners.GradientCombiner`; ``interval`` must be 1.

    Raises:
        LossweaveError: a leak outside [0, 1], or ``interval`` above 1: there are no weights to
            keep.

    Example:
        >>> combiner = GradDrop()
        >>> combiner.bind(("cls", "loc"))
        >>> combiner.weights_of(torch.eye(2, dtype=torch.float64))
        [1.0, 1.0]
        >>> combiner.mix([torch.tensor([1.0]), torch.tensor([2.0])], key=0)
        tensor([3.])
    """

    preference = own("it combines the gradients pₖ gₖ")

    scheduled: ClassVar[bool] = True
    elementwise = True

    def __init__(
        self,
        leak: dict[str, float] | Sequence[float] | float = 0.0,
        seed: int = 0,
        **shared: Unpack[Shared],
    ) -> None:
        super().__init__(**shared)
        if self.interval > 1:
            raise LossweaveError(
                f"GradDrop: interval={self.interval} should be 1: it has no weights to keep"
            )
        self.require("momentum", self.momentum, not self.momentum, "0: it has no weights")
        self.leak, self.seed = leak, seed
        self._leak = torch.zeros(0)
        self._factors: list[float] = []

    def bind(self, terms: Sequence[str]) -> None:
        super().bind(terms)
        leaks = self.per_term(self.leak, "leak")
        self.require("leak", self.leak, all(0 <= x <= 1 for x in leaks), "between 0 and 1")
        self._leak = torch.tensor(leaks)

    def weights_of(self, gramian: Tensor) -> list[float]:
        found = super().weights_of(gramian)
        self._factors = [p * w for p, w in zip(self.importances, found, strict=True)]
        return [1.0] * len(gramian)

    def weigh(self, gramian: Tensor, terms: list[int]) -> Tensor:
        return torch.ones(len(terms), dtype=torch.float64)

    def mix(self, rows: Sequence[Tensor], key: int) -> Tensor:
        device = rows[0].device
        seed = generator_for(self.seed, self.progress.update, key).initial_seed()
        generator = torch.Generator(device).manual_seed(seed)  # drawn where it is needed
        drawn = torch.rand(rows[0].numel(), generator=generator, device=device)
        precise = torch.promote_types(rows[0].dtype, torch.float32)
        stacked = torch.stack(
            [row.flatten().to(precise) * f for row, f in zip(rows, self._factors, strict=True)]
        )
        return sign_dropout(stacked, drawn.to(precise), self._leak.to(device)).view_as(rows[0])
