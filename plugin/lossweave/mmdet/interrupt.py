"""Nothing lost on Ctrl-C."""

import os
from functools import partial
from typing import Any

from mmengine.dist import get_dist_info
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner

from lossweave.host.interrupt import Interrupt
from lossweave.registry import HOOKS

__all__ = ["SaveOnInterruptHook"]


@HOOKS.register_module()
class SaveOnInterruptHook(Hook):
    """On Ctrl-C, finish the iteration, write a checkpoint, and only then stop.

    A second Ctrl-C stops at once. With several processes it does nothing, since they would
    have to agree on the iteration. ``tools/train.py`` adds it.
    """

    priority = "LOWEST"  # after everything that belongs to the iteration

    def __init__(self) -> None:
        self._interrupt = Interrupt(partial(print_log, logger="current"))

    def before_train(self, runner: Runner) -> None:
        """Take over the interrupt signal, in the main thread of a single process."""
        if get_dist_info()[1] == 1:
            self._interrupt.take()

    def after_train_iter(self, runner: Runner, batch_idx: int, *_: Any, **__: Any) -> None:
        """Save and stop, if asked to."""
        if not self._interrupt.asked:
            return
        name = f"iter_{runner.iter + 1}.pth"
        runner.save_checkpoint(runner.work_dir, name, by_epoch=False)
        path = os.path.join(runner.work_dir, name)
        with open(os.path.join(runner.work_dir, "last_checkpoint"), "w") as file:
            file.write(path)
        print_log(f"interrupted; saved {path}, go on with --resume", "current")
        self.after_train(runner)
        raise KeyboardInterrupt

    def after_train(self, runner: Runner) -> None:
        """Give the signal back."""
        self._interrupt.give_back()
