"""Weights by the terms' excess risks."""

from typing import Annotated, ClassVar

import torch
from torch import Tensor
from typing_extensions import Unpack

from lossweave.combiners.gradients._row_memory import RowMemory
from lossweave.combiners.gradients.base import GradientCombiner, Shared
from lossweave.combiners.registry import register_combiner
from lossweave.progress import Progress
from lossweave.utils.fields import above, at_least
from lossweave.utils.shown_rows import Shown

__all__ = ["ExcessMTL", "excess_risks", "risen"]

#: Added to the squares and to the first excess, as in TorchJD.
_EPS = 1e-7


def excess_risks(rows: Tensor, squares: Tensor) -> Tensor:
    r"""How much lower each loss might still get, to second order:
    :math:`e_k = \sum_i g_{ki}^2 / \sqrt{S_{ki}}`, with the diagonal of the Hessian estimated, as in
    AdaGrad, by the root of the sums of squares S.

    Args:
        rows: g, shape ``(K, n)``.
        squares: S, those of these rows included, shape ``(K, n)``.

    Example:
        >>> excess_risks(torch.tensor([[3.0, 0.0]]), torch.tensor([[9.0, 4.0]]))
        tensor([3.])
    """
    return (rows.square() / (squares + _EPS).sqrt()).sum(1)


def risen(logits: Tensor, excess: Tensor, step: float) -> Tensor:
    r""":math:`\log w_k + \eta e_k`, shifted such that the weights still add up to what they did.

    Args:
        logits: :math:`\log w`, shape ``(K,)``.
        excess: e, relative to the first one, shape ``(K,)``.
        step: :math:`\eta`.

    Example:
        >>> risen(torch.zeros(2), torch.tensor([0.0, 1.0]), step=1.0986123).exp()
        tensor([0.5000, 1.5000])
    """
    raised = logits + step * excess
    raised = raised - raised.max()
    return raised + torch.logsumexp(logits, dim=0) - torch.logsumexp(raised, dim=0)


@register_combiner
class ExcessMTL(GradientCombiner):
    r"""Terms that are further from what they can reach weigh more: :math:`\sum_k w_k g_k`,
    :math:`w_k \leftarrow w_k e^{\eta e_k / e_k(0)}`, scaled to the sum K, with the excess risks
    :math:`e_k` of :func:`excess_risks` (He et al., Robust Multi-Task Learning with Excess Risks,
    2024).

    A loss's value says little of how far it can fall: that of a noisy term stays high. Its excess
    over the optimum is estimated from gradients, whose squares are summed up over the training.
    Weights multiply up, so over many updates differences grow until one term has nearly all:
    ``robust_step_size`` says how soon.

    As in the authors' code the weights are 1 at first, add up to K, and wait until the first excess
    is known; in the paper they add up to 1. TorchJD's ``ExcessMTL`` has these weights over K, and
    without a warm-up takes its first step by the excess as it is.

    State: the sums S of every element of the shared parameters, per term: K copies of the trained
    parameters, in memory and in the checkpoint. At 'features' and 'representation' no element of a
    row is met again, since it belongs to a batch; there one sum per term, of its row's squared
    length, stands for all of them.

    Edge cases: zero rows and absent terms are left out, and what is known of them stays; a term's
    first excess is that of its own first updates.

    Args:
        robust_step_size: :math:`\eta`; 0.01 as in LibMTL.
        n_warmup_steps: updates of a term whose mean excess is its :math:`e_k(0)`, and in which its
            weight rests; 1 as in the authors' code, the paper has three epochs.
        shared: ``boundary``, ``interval``, ``normalize``, ``private``, ``momentum``, as in
            :class:`~lossweave.combiners.GradientCombiner`.

    Raises:
        LossweaveError: ``robust_step_size`` not positive, or ``n_warmup_steps`` below 1.

    Example:
        >>> combiner = ExcessMTL(robust_step_size=1.0)
        >>> combiner.bind(("cls", "loc"))
        >>> present = torch.tensor([True, True])
        >>> for update, length in enumerate((1.0, 0.5)):  # what cls may still gain has halved
        ...     combiner.begin(Progress(update))
        ...     gramian = torch.tensor([[length, 0.0], [0.0, 1.0]], dtype=torch.float64).square()
        ...     weights = combiner.weights_of(gramian)
        ...     combiner.update(torch.ones(2), present)
        >>> [round(w, 2) for w in weights]
        [0.76, 1.24]
    """

    learns: ClassVar[bool] = True
    remembers = True
    logits: Tensor
    first: Tensor
    steps: Tensor
    beside: Tensor

    def __init__(
        self,
        robust_step_size: Annotated[float, above(0)] = 0.01,
        n_warmup_steps: Annotated[int, at_least(1)] = 1,
        **shared: Unpack[Shared],
    ) -> None:
        super().__init__(**shared)
        self.robust_step_size, self.n_warmup_steps = robust_step_size, n_warmup_steps
        self._excess: Tensor | None = None
        self._beside: Tensor | None = None

    def init_state(self, count: int) -> None:
        super().init_state(count)
        for name in ("logits", "first", "steps", "beside"):
            self.register_buffer(name, torch.zeros(count, dtype=torch.float64))
        self.memory = RowMemory(count)

    def begin(self, progress: Progress) -> None:
        super().begin(progress)
        self._excess = self._beside = None
        if progress.first_of_update:
            self.memory.forget_staged()

    def remember(self, shown: Shown) -> None:
        self._excess, self._beside = self._with_beside(shown.beside)
        self.memory.open(shown.parameters)
        for piece in shown.pieces:
            before = self.memory.of(piece.parameter)
            rows = torch.zeros_like(before)
            for k, row in piece.rows.items():
                rows[k] = row.to(rows.dtype) / shown.scale.to(rows.dtype)
            after = torch.addcmul(before, rows, rows)
            self.memory.stage(piece.parameter, after)
            self._excess += excess_risks(rows, after).double().cpu()

    def _with_beside(self, squares: Tensor) -> tuple[Tensor, Tensor]:
        """The excess at the boundary, from one sum a term, and the new sums."""
        sums = self.beside.cpu() + squares
        return squares / (sums + _EPS).sqrt(), sums

    def weigh(self, gramian: Tensor, terms: list[int]) -> Tensor:
        excess, beside = self._excess, self._beside
        if excess is None or beside is None:  # there is but the Gramian
            squares = torch.zeros(len(self.terms), dtype=torch.float64)
            squares[terms] = gramian.diagonal()
            excess, beside = self._with_beside(squares)
        logits, first, steps = (x.cpu().clone() for x in (self.logits, self.first, self.steps))
        ready = torch.zeros(len(self.terms), dtype=torch.bool)
        ready[terms] = steps[terms] >= self.n_warmup_steps
        if ready.any():
            relative = torch.where(ready, excess / (first + _EPS), torch.ones_like(excess))
            logits[terms] = risen(logits[terms], relative[terms], self.robust_step_size)
        means = torch.lerp(first, excess, 1 / (steps + 1))
        warming = [k for k in terms if not ready[k]]
        first[warming] = means[warming]
        steps[terms] += 1
        self.move(logits=logits, first=first, steps=steps, beside=beside)
        return logits[terms].exp()

    def update(self, losses: Tensor, present: Tensor) -> None:
        learned = "logits" in self._moved  # else no two terms were weighed
        super().update(losses, present)
        if learned:
            self.memory.commit()
        self.memory.forget_staged()
