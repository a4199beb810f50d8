"""Homoscedastic uncertainty weighting."""

import math
from typing import ClassVar

import torch
from torch import Tensor

from lossweave.combiners.adaptive._adam import LARGEST_RATE, BufferAdam
from lossweave.combiners.base import Combined, Combiner
from lossweave.combiners.registry import register_combiner

__all__ = ["UncertaintyWeighting", "uncertainty_value"]


def uncertainty_value(
    losses: Tensor, log_var: Tensor, present: Tensor, bounded: bool = False
) -> Tensor:
    r""":math:`\sum_k \frac12 e^{-s_k} L_k + \frac12 s_k`, over the terms that are present.

    Args:
        losses: shape ``(K,)``.
        log_var: the log-variances s, shape ``(K,)``.
        present: boolean ``(K,)``.
        bounded: whether the last part is :math:`\log(1 + e^{s_k})`, which is above 0.

    Example:
        >>> present = torch.tensor([True, True, True])
        >>> uncertainty_value(torch.tensor([1.0, 2.0, 4.0]), torch.zeros(3), present)
        tensor(3.5000)
    """
    price = torch.nn.functional.softplus(log_var) if bounded else 0.5 * log_var
    parts = 0.5 * torch.exp(-log_var) * losses + price
    return torch.where(present, parts, torch.zeros_like(parts)).sum()


@register_combiner
class UncertaintyWeighting(Combiner):
    r"""Learned log-variances s:
    :math:`\sum_k \frac12 e^{-s_k} L_k + \frac12 s_k` (Kendall et al., 2018).

    The formula is that of TorchJD's ``UW``. The log-variances are stepped by the combiner's
    own Adam, from the rank-averaged losses: the host's optimizer and weight decay never see
    them. At its optimum :math:`s_k = \ln L_k`, so each weighted term tends to 1/2.

    The value can be NEGATIVE, through s; it is logged as ``loss``, the raw losses beside it. With
    ``bounded`` it cannot: the price of s is :math:`\log(1 + e^{s_k})`, that is :math:`\log(1 +
    \sigma_k^2)` (Liebel and Körner, Auxiliary Tasks in Multi-task Learning, 2018). The optimum is
    then :math:`e^{s_k} = (L_k + \sqrt{L_k^2 + 8 L_k}) / 4`: a large loss has the weight
    :math:`1 / L_k`, twice that of the unbounded form, a small one :math:`1 / \sqrt{2 L_k}`.

    Edge cases: at 0 or below no s is best, so it stays as it is, moments included, and the
    term contributes with its present weight (otherwise batches without positives would let
    the weight grow without bound); an absent term's stays likewise. s is kept in
    [-limit, limit], so weights stay finite.

    Args:
        lr: learning rate of s.
        betas: decay rates of its Adam.
        init: initial s; 0 gives weights 1/2.
        limit: bound on |s|.
        bounded: whether the value is kept above 0.

    Raises:
        LossweaveError: ``lr`` negative, betas outside [0, 1), ``limit`` not in (0, 80], or
            ``init`` beyond ``limit``.

    Example:
        >>> combiner = UncertaintyWeighting()
        >>> combiner.bind(("cls", "loc"))
        >>> combiner.combine(torch.tensor([1.0, 2.0]), torch.tensor([True, True]))
        Combined(value=tensor(1.5000), weights=tensor([0.5000, 0.5000]))
    """

    learns: ClassVar[bool] = True
    log_var: Tensor

    def __init__(
        self,
        lr: float = 0.01,
        betas: tuple[float, float] = (0.9, 0.999),
        init: float = 0.0,
        limit: float = 20.0,
        bounded: bool = False,
    ) -> None:
        super().__init__()
        self.require("lr", lr, 0 <= lr < math.inf, "finite and not negative")
        self.require("lr", lr, lr <= LARGEST_RATE, f"at most {LARGEST_RATE}")
        fine = len(betas) == 2 and all(0 <= beta < 1 for beta in betas)
        self.require("betas", betas, fine, "two numbers in [0, 1)")
        self.require("limit", limit, 0 < limit <= 80, "positive and at most 80")
        self.require("init", init, abs(init) <= limit, f"in [-{limit}, {limit}], the limit")
        self.lr, self.betas, self.init, self.limit = lr, betas, init, limit
        self.bounded = bounded

    def init_state(self, count: int) -> None:
        self.register_buffer("log_var", torch.full((count,), float(self.init)))
        self.adam = BufferAdam(count, self.lr, self.betas)

    def combine(self, losses: Tensor, present: Tensor) -> Combined:
        log_var = self.log_var.to(losses.dtype)
        weights = (0.5 * torch.exp(-log_var)).masked_fill(~present, 0)
        return Combined(uncertainty_value(losses, log_var, present, self.bounded), weights)

    def update(self, losses: Tensor, present: Tensor) -> None:
        price = torch.sigmoid(self.log_var) if self.bounded else 0.5
        grad = price - 0.5 * torch.exp(-self.log_var) * losses
        stepped = self.adam.step(self.log_var, grad, present & (losses > 0))
        self.log_var.copy_(stepped.clamp(-self.limit, self.limit))
