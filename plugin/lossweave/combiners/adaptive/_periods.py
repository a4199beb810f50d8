"""What combiners share that compare the terms' averages over two periods."""

from typing import ClassVar, Literal

import torch
from torch import Tensor

from lossweave.combiners.base import Combiner
from lossweave.progress import Progress

__all__ = ["PeriodCombiner"]


class PeriodCombiner(Combiner):
    """A combiner whose weights follow from the averages of the last two periods.

    In each period the average is over the updates in which a term was there. State:
    ``newer`` and ``older``, nan where there is no average, and the sums of the period that
    runs.

    Args:
        period: 'epoch', or the number of optimizer updates in one period.

    Raises:
        LossweaveError: ``period`` below 1; in training, epochs where their length is not known.
    """

    learns: ClassVar[bool] = True
    scheduled: ClassVar[bool] = True
    totals: Tensor
    counts: Tensor
    newer: Tensor
    older: Tensor

    def __init__(self, period: Literal["epoch"] | int) -> None:
        super().__init__()
        fine = period == "epoch" or (isinstance(period, int) and period >= 1)
        self.require("period", period, fine, "'epoch' or at least 1")
        self.period = period

    @property
    def needs_hook(self) -> bool:
        return self.period == "epoch"  # without the hook no epoch would ever end

    def begin(self, progress: Progress) -> None:
        super().begin(progress)
        if self.period == "epoch":
            self.require_epochs("period", "a number of updates")

    def init_state(self, count: int) -> None:
        for name in ("totals", "counts"):
            self.register_buffer(name, torch.zeros(count))
        for name in ("newer", "older"):
            self.register_buffer(name, torch.full((count,), torch.nan))

    def update(self, losses: Tensor, present: Tensor) -> None:
        self.totals += torch.where(present, losses, torch.zeros_like(losses)).to(self.totals.dtype)
        self.counts += present
        if self._ends_period():
            self.older.copy_(self.newer)
            self.newer.copy_(self.totals / self.counts)  # 0 / 0 is nan: no average
            self.totals.zero_()
            self.counts.zero_()

    def _ends_period(self) -> bool:
        following = self.progress.update + 1
        if isinstance(self.period, int):
            return following % self.period == 0
        return self.progress.epoch_of(following) != self.progress.epoch
