"""Trainings that are cut into rungs: looked at, and ended, before their end."""

import os
from collections.abc import Sequence
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import EpochBasedTrainLoop, Runner

from lossweave.host.rungs import checked_rungs, detections_of
from lossweave.mmdet.checkpoints import WHOLE_FILES
from lossweave.registry import HOOKS
from lossweave.utils.files import write_atomically

__all__ = ["RungHook"]


@HOOKS.register_module()
class RungHook(Hook):
    """Evaluates a training at its rungs, and ends it at the last: saved, to be gone on with.

    Learning-rate schedules and all else that knows how long the training is are those of the
    whole training. Rungs are counted as the training loop counts, in iterations or in epochs.
    What a rung's evaluation detects is kept in ``rung_<n>.bbox.json`` in the work directory, in
    COCO's format, where the evaluator is a ``CocoMetric``.

    Args:
        at: the rungs, ascending; the training ends at the last one.

    Raises:
        LossweaveError: rungs that are not whole numbers above 0 in ascending order.

    Example:
        In a config: ``default_hooks = dict(rungs=dict(type='lossweave.RungHook', at=[100, 200]))``
    """

    priority = "LOWEST"  # after everything that belongs to the iteration

    def __init__(self, at: Sequence[int]) -> None:
        self._at = checked_rungs(at)

    def before_train(self, runner: Runner) -> None:
        """A training that was saved at its last rung may have been stopped in the evaluation."""
        done = runner.epoch if self._by_epoch(runner) else runner.iter
        if done >= self._at[-1]:
            self._evaluate(runner, self._at[-1])
            runner.train_loop.stop_training = True

    def after_train_iter(self, runner: Runner, batch_idx: int, *_: Any, **__: Any) -> None:
        """Stand at a rung, of a training that counts iterations."""
        if not self._by_epoch(runner) and runner.iter + 1 in self._at:
            self._stand(runner, runner.iter + 1, dict(epoch=runner.epoch, iter=runner.iter + 1))

    def after_train_epoch(self, runner: Runner) -> None:
        """Stand at a rung, of a training that counts epochs."""
        if self._by_epoch(runner) and runner.epoch + 1 in self._at:
            self._stand(runner, runner.epoch + 1, dict(epoch=runner.epoch + 1, iter=runner.iter))

    def _stand(self, runner: Runner, rung: int, meta: dict[str, int]) -> None:
        last = rung == self._at[-1]
        if last:
            self._save(runner, rung, meta)
        self._evaluate(runner, rung)
        runner.train_loop.stop_training = last
        runner.model.train()

    def _save(self, runner: Runner, rung: int, meta: dict[str, int]) -> None:
        name = f"{'epoch' if self._by_epoch(runner) else 'iter'}_{rung}.pth"
        where = dict(by_epoch=False, backend_args=dict(backend=WHOLE_FILES))
        runner.save_checkpoint(runner.work_dir, name, meta=meta, **where)
        if is_main_process():
            path = os.path.join(runner.work_dir, name)
            write_atomically(os.path.join(runner.work_dir, "last_checkpoint"), path.encode())
            print_log(f"rung {rung}: saved {path}", "current")

    def _evaluate(self, runner: Runner, rung: int) -> None:
        if runner.val_loop is None:
            return
        for metric in runner.val_loop.evaluator.metrics:
            if hasattr(metric, "outfile_prefix"):
                kept = str(detections_of(runner.work_dir, rung))
                metric.outfile_prefix = kept.removesuffix(".bbox.json")
        runner.val_loop.run()

    @staticmethod
    def _by_epoch(runner: Runner) -> bool:
        return isinstance(runner.train_loop, EpochBasedTrainLoop)
