"""Nothing lost on Ctrl-C."""

import logging
from typing import Any

from detectron2.engine import HookBase
from detectron2.utils import comm

from lossweave.host.interrupt import Interrupt

__all__ = ["SaveOnInterruptHook"]

_LOGGER = logging.getLogger("detectron2.lossweave")


class SaveOnInterruptHook(HookBase):
    """On Ctrl-C, finish the iteration, write a checkpoint, and only then stop.

    A second Ctrl-C stops at once. With several processes it does nothing, since they would have
    to agree on the iteration. It goes last, after everything that belongs to the iteration.

    Args:
        checkpointer: the trainer's.
    """

    def __init__(self, checkpointer: Any) -> None:
        self._checkpointer = checkpointer
        self._interrupt = Interrupt(_LOGGER.warning)

    def before_train(self) -> None:
        """Take the interrupt signal over."""
        if comm.get_world_size() == 1:
            self._interrupt.take()

    def after_step(self) -> None:
        """Save and stop, if asked to."""
        if not self._interrupt.asked:
            return
        at = self.trainer.iter
        self._checkpointer.save(f"model_{at:07d}", iteration=at)
        _LOGGER.warning("interrupted; saved model_%07d.pth, go on with --resume", at)
        raise KeyboardInterrupt

    def after_train(self) -> None:
        """Give the signal back."""
        self._interrupt.give_back()
