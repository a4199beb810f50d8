"""What watches a stage: its times, losses and memory, and that frozen parts stay as they are."""

from __future__ import annotations

from typing import Any

from mmengine.dist import get_world_size
from mmengine.hooks import Hook, LoggerHook
from mmengine.model import is_model_wrapper
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from mmengine.runner import Runner
from torch import nn

from lossweave.mmdet.staged.network import StageDetector
from lossweave.registry import HOOKS, OPTIM_WRAPPER_CONSTRUCTORS
from lossweave.staged.freezing import FrozenGuard, drop_frozen
from lossweave.staged.losses import loss_names, sums_by_term
from lossweave.staged.measure import StageMeasure
from lossweave.staged.record import StageRecord

__all__ = [
    "FrozenHook",
    "StageClockHook",
    "StageRecordHook",
    "TrainableOptimWrapperConstructor",
]

_KEY = "lossweave_stage"


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class TrainableOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """MMEngine's constructor, with frozen weights left out of the optimizer altogether.

    The stock one hands them over as well: they then have a group each, and whatever an
    optimizer does to parameters without gradients happens to them.
    """

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """The optimizer wrapper of what the model trains."""
        wrapper = super().__call__(model)
        drop_frozen(wrapper.optimizer)
        return wrapper


@HOOKS.register_module()
class FrozenHook(Hook):
    """Checks after training that every frozen tensor of a stage is bit-identical.

    Raises:
        LossweaveError: one is not, or the optimizer holds one.
    """

    priority = "LOWEST"

    def before_train(self, runner: Runner) -> None:
        """Note how the frozen parts are."""
        model = _plain(runner.model)
        frozen = model.frozen_modules if isinstance(model, StageDetector) else {}
        self._guard = FrozenGuard(frozen)

    def after_train(self, runner: Runner) -> None:
        """Compare, in the weights and in the optimizer."""
        self._guard.check(f"after training in {runner.work_dir}", [runner.optim_wrapper.optimizer])


class StageRecordHook(Hook):
    """Measures a stage; what it has measured is in the checkpoint, so sessions add up.

    An iteration's time is what passes from the end of the one before it, so waiting for data
    counts. Writing checkpoints, evaluation, and what an interruption threw away do not.

    Args:
        record: where it is written at the end of training and of every session.
    """

    priority = "BELOW_NORMAL"  # before the checkpoint hooks, which save what is counted here

    def __init__(self, record: StageRecord) -> None:
        self.measure = StageMeasure(record)
        self._loaded: dict[str, Any] | None = None

    def before_train(self, runner: Runner) -> None:
        """Begin the session's measurement."""
        loggers = [hook for hook in runner.hooks if isinstance(hook, LoggerHook)]
        self._interval = loggers[0].interval if loggers else 50
        loaded, self._loaded = self._loaded, None
        if loaded is not None:
            self.measure.load_state_dict(loaded)
        loader = runner.train_dataloader
        size = getattr(loader.batch_sampler, "batch_size", None) or loader.batch_size or 1
        accumulation = max(1, getattr(runner.optim_wrapper, "_accumulative_counts", 1))
        self.measure.begin(size * get_world_size(), accumulation)

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict[str, Any] | None = None,
    ) -> None:
        """Count the iteration; note the losses at the logger's interval."""
        self.measure.tick()
        done = runner.iter + 1
        if done % self._interval == 0 or done == runner.max_iters:
            self.measure.point(self._losses(runner, outputs or {}))

    def after_train(self, runner: Runner) -> None:
        """Write what was measured into the record."""
        self.measure.write()

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Keep the measurement in the checkpoint."""
        checkpoint[_KEY] = self.measure.state_dict()

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Take it up again, when resuming."""
        if runner._resume:
            self._loaded = checkpoint.get(_KEY)

    def _losses(self, runner: Runner, outputs: dict[str, Any]) -> dict[str, float]:
        hub, many = runner.message_hub, self._interval
        means = {n: hub.get_scalar(f"train/{n}").mean(many) for n in loss_names(outputs)}
        return sums_by_term({name: float(mean) for name, mean in means.items()})


class StageClockHook(Hook):
    """Lets the clock of a :class:`StageRecordHook` go on after all hooks of an iteration.

    Args:
        measured: the hook whose clock it is.
    """

    priority = "LOWEST"  # after the checkpoint hooks, whose work is no training

    def __init__(self, measured: StageRecordHook) -> None:
        self._measured = measured

    def after_train_iter(self, runner: Runner, batch_idx: int, *_: Any, **__: Any) -> None:
        """Begin the next iteration."""
        self._measured.measure.resume_clock()


def _plain(model: Any) -> nn.Module:
    return model.module if is_model_wrapper(model) else model
