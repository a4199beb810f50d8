"""Impartial multi-task learning, its loss balance."""

import math
from typing import ClassVar

import torch
from torch import Tensor

from lossweave.combiners.adaptive._adam import LARGEST_RATE, BufferAdam
from lossweave.combiners.base import Combined, Combiner
from lossweave.combiners.registry import register_combiner

__all__ = ["IMTLL", "imtl_l_value"]


def imtl_l_value(losses: Tensor, log_scale: Tensor, present: Tensor) -> Tensor:
    r""":math:`\sum_k e^{s_k} L_k - s_k`, over the terms that are present.

    Args:
        losses: shape ``(K,)``.
        log_scale: the log-scales s, shape ``(K,)``.
        present: boolean ``(K,)``.

    Example:
        >>> imtl_l_value(torch.tensor([1.0, 2.0]), torch.zeros(2), torch.tensor([True, True]))
        tensor(3.)
    """
    parts = torch.exp(log_scale) * losses - log_scale
    return torch.where(present, parts, torch.zeros_like(parts)).sum()


@register_combiner
class IMTLL(Combiner):
    r"""Learned log-scales s: :math:`\sum_k e^{s_k} L_k - s_k` (Liu et al., Towards Impartial
    Multi-Task Learning, 2021).

    The formula is that of TorchJD's ``IMTLL``; s is stepped by the combiner's own Adam from
    the rank-averaged losses. At its optimum :math:`s_k = -\ln L_k`: every scaled term is 1.

    Edge cases: at 0 or below no s is best, so it stays as it is, moments included, and the
    term contributes with its present weight; an absent term's stays likewise. s is kept in
    [-limit, limit], so weights stay finite. The value can be negative, through s.

    Args:
        lr: learning rate of s.
        betas: decay rates of its Adam.
        limit: bound on |s|.

    Raises:
        LossweaveError: ``lr`` negative, betas outside [0, 1), ``limit`` not in (0, 80].

    Example:
        >>> combiner = IMTLL()
        >>> combiner.bind(("cls", "loc"))
        >>> combiner.combine(torch.tensor([1.0, 2.0]), torch.tensor([True, True]))
        Combined(value=tensor(3.), weights=tensor([1., 1.]))
    """

    learns: ClassVar[bool] = True
    log_scale: Tensor

    def __init__(
        self, lr: float = 0.01, betas: tuple[float, float] = (0.9, 0.999), limit: float = 20.0
    ) -> None:
        super().__init__()
        self.require("lr", lr, 0 <= lr < math.inf, "finite and not negative")
        self.require("lr", lr, lr <= LARGEST_RATE, f"at most {LARGEST_RATE}")
        fine = len(betas) == 2 and all(0 <= beta < 1 for beta in betas)
        self.require("betas", betas, fine, "two numbers in [0, 1)")
        self.require("limit", limit, 0 < limit <= 80, "positive and at most 80")
        self.lr, self.betas, self.limit = lr, betas, limit

    def init_state(self, count: int) -> None:
        self.register_buffer("log_scale", torch.zeros(count))
        self.adam = BufferAdam(count, self.lr, self.betas)

    def combine(self, losses: Tensor, present: Tensor) -> Combined:
        log_scale = self.log_scale.to(losses.dtype)
        weights = log_scale.exp().masked_fill(~present, 0)
        return Combined(imtl_l_value(losses, log_scale, present), weights)

    def update(self, losses: Tensor, present: Tensor) -> None:
        grad = torch.exp(self.log_scale) * losses - 1
        stepped = self.adam.step(self.log_scale, grad, present & (losses > 0))
        self.log_scale.copy_(stepped.clamp(-self.limit, self.limit))
