"""Nothing lost on Ctrl-C, on a scheduler's signal or when the terminal closes."""

import os
from functools import partial
from typing import Any

from mmengine.dist import barrier, is_main_process
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner

from lossweave.host.interrupt import Interrupt
from lossweave.mmdet.checkpoints import WHOLE_FILES
from lossweave.registry import HOOKS
from lossweave.utils.files import write_atomically

__all__ = ["SaveOnInterruptHook", "has_trained"]


@HOOKS.register_module()
class SaveOnInterruptHook(Hook):
    """On SIGINT, SIGTERM or SIGHUP, finish the iteration, write a checkpoint, and only then stop.

    In an evaluation nothing has to be finished: what was trained is saved at once. A second
    Ctrl-C stops without saving. Several processes agree on the iteration: this one or the next
    where a combiner exchanges its losses anyway, else up to ten later.
    ``tools/train.py`` adds the hook.
    """

    priority = "LOWEST"  # after everything that belongs to the iteration

    def __init__(self) -> None:
        self._interrupt = Interrupt(partial(print_log, logger="current"))
        self._training = False
        #: Whether an iteration has been trained.
        self.trained = False

    def before_train(self, runner: Runner) -> None:
        """Take over the signals."""
        self._interrupt.take()
        self._training = True

    def after_train_iter(self, runner: Runner, batch_idx: int, *_: Any, **__: Any) -> None:
        """Save and stop, if asked to."""
        self.trained = True
        if self._interrupt.agreed(runner.iter):
            self._stop(runner, runner.iter + 1)

    def before_val_iter(self, runner: Runner, batch_idx: int, *_: Any, **__: Any) -> None:
        """The same in an evaluation; with several processes, after it."""
        if self._training and self._interrupt.alone and self._interrupt.asked:
            self._stop(runner, runner.iter)

    def after_train(self, runner: Runner) -> None:
        """Give the signals back."""
        self._interrupt.give_back()
        self._training = False

    def _stop(self, runner: Runner, iteration: int) -> None:
        name = f"iter_{iteration}.pth"
        path = os.path.join(runner.work_dir, name)
        where = dict(by_epoch=False, backend_args=dict(backend=WHOLE_FILES))
        meta = dict(epoch=runner.epoch, iter=iteration)
        runner.save_checkpoint(runner.work_dir, name, meta=meta, **where)
        if is_main_process():
            write_atomically(os.path.join(runner.work_dir, "last_checkpoint"), path.encode())
            print_log(f"interrupted; saved {path}, go on with --resume", "current")
        barrier()  # nobody leaves before it is written
        self.after_train(runner)
        raise KeyboardInterrupt


def has_trained(runner: Any) -> bool:
    """Whether a runner has trained an iteration; one without the hook may have.

    Args:
        runner: MMEngine's, or another.
    """
    hooks = [hook for hook in getattr(runner, "hooks", ()) if isinstance(hook, SaveOnInterruptHook)]
    return any(hook.trained for hook in hooks) or not hooks
