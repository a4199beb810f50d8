"""Nothing lost on Ctrl-C."""

import os
import signal
from typing import Any

from mmengine.dist import get_dist_info
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner

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
        self._asked = False
        self._previous: Any = None

    def before_train(self, runner: Runner) -> None:
        """Take over the interrupt signal, in the main thread of a single process."""
        if get_dist_info()[1] > 1:
            return
        try:
            self._previous = signal.signal(signal.SIGINT, self._note)
        except ValueError:  # not the main thread: signals are someone else's
            self._previous = None

    def after_train_iter(self, runner: Runner, batch_idx: int, *_: Any, **__: Any) -> None:
        """Save and stop, if asked to."""
        if not self._asked:
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
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)
            self._previous = None

    def _note(self, *_: Any) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True
        print_log("interrupt: finishing this iteration, then saving (again: stop now)", "current")
