"""What watches a stage under Detectron2: its times and losses, and that frozen parts stay."""

from __future__ import annotations

from typing import Any

from detectron2.engine import HookBase
from detectron2.utils import comm
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from lossweave.staged.freezing import FrozenGuard
from lossweave.staged.losses import sums_by_term
from lossweave.staged.measure import StageMeasure
from lossweave.staged.record import StageRecord

__all__ = ["FrozenHook", "StageClockHook", "StageRecordHook", "unwrapped"]


def unwrapped(model: nn.Module) -> Any:
    """The network itself, where it is in DDP's wrapper."""
    return model.module if isinstance(model, DistributedDataParallel) else model


class FrozenHook(HookBase):
    """Checks that the optimizer holds nothing frozen, and that training changed nothing frozen.

    Args:
        name: of the stage, said in messages.

    Raises:
        LossweaveError: it does.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def before_train(self) -> None:
        """Note how the frozen parts are; look into the optimizer."""
        self._guard = FrozenGuard(unwrapped(self.trainer.model).frozen_modules)
        self._guard.check(f"stage {self._name!r}", [self.trainer.optimizer])

    def after_train(self) -> None:
        """Compare, if the training has come to its end."""
        if self.trainer.iter >= self.trainer.max_iter:
            self._guard.check(f"stage {self._name!r}", [self.trainer.optimizer])


class StageRecordHook(HookBase):
    """Measures a stage; what it has measured is in the checkpoint, so sessions add up.

    Register it after the combiner's hook and before the one that saves.

    Args:
        record: where it is written at the end of training and of every session.
        batch_size: images per iteration on this process.
        interval: iterations between two points of the losses' curve.
    """

    def __init__(self, record: StageRecord, batch_size: int, interval: int) -> None:
        self.measure = StageMeasure(record)
        self._batch_size, self._interval = batch_size, interval
        self._values: dict[str, list[float]] = {}

    def before_train(self) -> None:
        """Begin the session's measurement."""
        self.measure.begin(self._batch_size * comm.get_world_size())

    def after_step(self) -> None:
        """Count the iteration; note the losses at the interval."""
        self.measure.tick()
        at = self.trainer.iter
        for name, (value, when) in self.trainer.storage.latest().items():
            if when == at and name.startswith("loss_"):
                self._values.setdefault(name, []).append(float(value))
        if (at + 1) % self._interval == 0 or at + 1 == self.trainer.max_iter:
            means = {name: sum(values) / len(values) for name, values in self._values.items()}
            self.measure.point(sums_by_term(means))
            self._values = {}

    def after_train(self) -> None:
        """Write what was measured into the record, however training ended."""
        self.measure.write()

    def state_dict(self) -> dict[str, Any]:
        """Keep the measurement in the checkpoint."""
        values = {name: list(values) for name, values in self._values.items()}
        return {"measure": self.measure.state_dict(), "values": values}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take it up again."""
        self.measure.load_state_dict(state_dict["measure"])
        self._values = {name: list(values) for name, values in state_dict["values"].items()}


class StageClockHook(HookBase):
    """Lets the clock of a :class:`StageRecordHook` go on after all hooks of an iteration.

    Args:
        measured: the hook whose clock it is.
    """

    def __init__(self, measured: StageRecordHook) -> None:
        self._measured = measured

    def after_step(self) -> None:
        """Begin the next iteration."""
        self._measured.measure.resume_clock()
