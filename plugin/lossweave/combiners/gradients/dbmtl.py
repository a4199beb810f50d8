"""Dual balancing of losses and gradients."""

from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor
from typing_extensions import Unpack

from lossweave.combiners.gradients._row_memory import RowMemory
from lossweave.combiners.gradients.base import ZERO_SQUARE, GradientCombiner, Shared
from lossweave.combiners.registry import register_combiner
from lossweave.progress import Progress
from lossweave.utils.fields import at_least, between
from lossweave.utils.shown_rows import Shown

__all__ = ["DBMTL", "dual_balanced_weights"]

#: What the authors' code has.
_BETA = 0.9


def dual_balanced_weights(norms: Tensor, losses: Tensor, eps: float) -> Tensor:
    r""":math:`w_k = \max_j \|u_j\| / \|g_k\|` with :math:`u_k = g_k / (L_k + \epsilon)`, the
    gradient of :math:`\log(L_k + \epsilon)`: every such gradient is brought to the length of
    the longest. A term at 0 or below has no logarithm, and weight 0.

    Args:
        norms: :math:`\|g_k\|`, positive, shape ``(K,)``.
        losses: shape ``(K,)``.
        eps: :math:`\epsilon`.

    Example:
        >>> dual_balanced_weights(torch.tensor([1.0, 6.0]), torch.tensor([1.0, 2.0]), 0.0)
        tensor([3.0000, 0.5000])
    """
    known = _has_logarithm(losses)
    relative = torch.where(known, norms / torch.where(known, losses + eps, 1.0), 0.0)
    return torch.where(known, relative.max() / norms, 0.0)


def _has_logarithm(losses: Tensor) -> Tensor:
    return (losses > 0) & losses.isfinite()


@register_combiner
class DBMTL(GradientCombiner):
    r"""The gradients of the terms' logarithms, smoothed over time and each brought to the length of
    the longest, then added: :math:`\sum_k \frac{\max_j \|m_j\|}{\|m_k\|} m_k`,
    :math:`m_k \leftarrow u_k + \beta_t (m_k - u_k)`, :math:`u_k = \nabla \log L_k`,
    :math:`\beta_t = \beta / t^\sigma` (Lin et al., Dual-Balancing for Multi-Task Learning, 2023).

    Neither the scale of a loss nor the length of its gradient makes it prevail. In the end every
    term pulls with the same length; the losses decide which. m is 0 at first, so with
    :math:`\beta` = 0.9 the first steps are a tenth as long, and grow over some twenty updates.

    State, where rows are smoothed: m, K copies of the trained parameters, in memory and in the
    checkpoint. At 'features' and 'representation' no element of a row is met again, since it
    belongs to a batch: there rows are not smoothed, and :math:`m_k = u_k`.

    Edge cases: zero rows and absent terms are left out, and what is remembered of them stays. A
    term whose loss is at 0 or below has weight 0; with one term left, its weight is 1.

    Args:
        eps: added to each loss in its logarithm; 1e-8 as in LibMTL.
        beta: share of the past in the rows of shared parameters; 0 smooths nothing. None means 0.9,
            as in the authors' code, with boundary='parameters', and 0 elsewhere.
        beta_sigma: :math:`\sigma`, how fast that share fades; 0 as in the authors' code, the paper
            also tries 0.5.
        shared: ``boundary``, ``interval``, ``normalize``, ``private``, ``momentum``, as in
            :class:`~lossweave.combiners.GradientCombiner`. Smoothed rows have no ordinary backward:
            with an ``interval`` above 1 ``beta`` is 0.

    Raises:
        LossweaveError: ``eps`` or ``beta_sigma`` negative, ``beta`` outside [0, 1), or above 0
            where rows cannot be smoothed.

    Example:
        >>> combiner = DBMTL(beta=0.0)
        >>> combiner.bind(("cls", "loc"))
        >>> value, _ = combiner.combine(torch.tensor([1.0, 2.0]), torch.tensor([True, True]))
        >>> gramian = torch.tensor([[1.0, 0.0], [0.0, 36.0]], dtype=torch.float64)
        >>> [round(w, 4) for w in combiner.weights_of(gramian)]
        [3.0, 0.5]
    """

    steps: Tensor

    def __init__(
        self,
        eps: Annotated[float, at_least(0)] = 1e-8,
        beta: Annotated[float, between(0, 1)] | None = None,
        beta_sigma: Annotated[float, at_least(0)] = 0.0,
        **shared: Unpack[Shared],
    ) -> None:
        super().__init__(**shared)
        smooths = self.boundary == "parameters" and self.interval == 1
        self.require("beta", beta, beta is None or beta < 1, "0 or more, and below 1")
        allowed = "0 (or None) unless boundary='parameters' and interval=1: no row is met again"
        self.require("beta", beta, not beta or smooths, allowed)
        self.eps, self.beta_sigma = eps, beta_sigma
        self.beta = (_BETA if smooths else 0.0) if beta is None else beta
        if self.beta:
            self.learns = self.remembers = self.elementwise = True  # type: ignore[misc]
        self._factors: list[float] = []

    def init_state(self, count: int) -> None:
        super().init_state(count)
        if self.beta:
            self.register_buffer("steps", torch.zeros(count, dtype=torch.float64))
            self.memory = RowMemory(count)

    def begin(self, progress: Progress) -> None:
        super().begin(progress)
        if self.beta and progress.first_of_update:
            self.memory.forget_staged()

    def weights_of(self, gramian: Tensor) -> list[float]:
        self._factors = super().weights_of(gramian)
        return self._factors

    def weigh(self, gramian: Tensor, terms: list[int]) -> Tensor:
        return dual_balanced_weights(gramian.diagonal().sqrt(), self._losses()[terms], self.eps)

    def _losses(self) -> Tensor:
        if self.root_losses is None:
            return torch.ones(len(self.terms), dtype=torch.float64)
        return self.root_losses.detach().cpu().double()

    # ------------------------------------------------------------------- where rows are smoothed

    def remember(self, shown: Shown) -> list[dict[int, Tensor]] | None:
        losses = self._losses()
        there = (shown.squares > ZERO_SQUARE * shown.squares.max()) & _has_logarithm(losses)
        if not there.any():  # nothing is learned from it
            return None
        steps = self.steps.cpu() + there
        shares = (self.beta / steps.clamp(min=1) ** self.beta_sigma).tolist()
        sizes, terms = (losses + self.eps).tolist(), there.nonzero().flatten().tolist()
        self.memory.open(shown.parameters)
        changed = []
        for piece in shown.pieces:
            kept = self.memory.of(piece.parameter).clone()
            rows = {}
            for k in terms:
                # The gradients of the losses, not of their logarithms, are what is weighed.
                size = sizes[k] * shown.scale.to(kept.dtype)
                new = torch.zeros_like(kept[k])
                if k in piece.rows:
                    new = piece.rows[k].to(kept.dtype) / size
                kept[k] = torch.lerp(new, kept[k], shares[k])
                rows[k] = kept[k] * size
            self.memory.stage(piece.parameter, kept)
            changed.append(rows)
        self.move(steps=steps)
        return changed

    def mix(self, rows: Sequence[Tensor], key: int) -> Tensor:
        return sum((w * row for w, row in zip(self._factors, rows, strict=True)), 0 * rows[0])

    def update(self, losses: Tensor, present: Tensor) -> None:
        super().update(losses, present)
        if self.beta:
            self.memory.commit()
