"""Nothing lost on Ctrl-C, on a scheduler's signal or when the terminal closes."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from detectron2.engine import HookBase
from detectron2.utils import comm

from lossweave.host.interrupt import Interrupt

__all__ = ["SaveOnInterruptHook"]

_LOGGER = logging.getLogger("detectron2.lossweave")
_T = TypeVar("_T")


class SaveOnInterruptHook(HookBase):
    """On SIGINT, SIGTERM or SIGHUP, finish the iteration, write a checkpoint, and only then stop.

    In an evaluation nothing has to be finished: what was trained is saved at once. A second
    Ctrl-C stops without saving. Several processes agree on the iteration: this one or the next
    where a combiner exchanges its losses anyway, else up to ten later. It goes last,
    after everything that belongs to the iteration.

    Args:
        checkpointer: the trainer's.
    """

    def __init__(self, checkpointer: Any) -> None:
        self._checkpointer = checkpointer
        self._interrupt = Interrupt(_LOGGER.warning)

    @property
    def asked(self) -> bool:
        """Whether somebody has asked to stop, be it in the last iteration."""
        return self._interrupt.asked

    def before_train(self) -> None:
        """Take the signals over."""
        self._interrupt.take()

    def after_step(self) -> None:
        """Save and stop, if asked to; after the last iteration what saves and ends has its turn."""
        if self.trainer.iter + 1 < self.trainer.max_iter and self._interrupt.agreed(
            self.trainer.iter
        ):
            self._save()
            raise KeyboardInterrupt

    def after_train(self) -> None:
        """Give the signals back."""
        self._interrupt.give_back()

    def stoppable(self, evaluate: Callable[[], _T]) -> Callable[[], _T]:
        """An evaluation for the trainer's hook, which ends when somebody asks to stop."""

        def call() -> _T:
            with self._saving():
                return evaluate()

        return call

    @contextmanager
    def _saving(self) -> Iterator[None]:
        try:
            with self._interrupt.at_once():
                yield
        except KeyboardInterrupt:
            self._save()
            raise

    def _save(self) -> None:
        at = self.trainer.iter
        if at < self.trainer.max_iter:  # what is through has been saved by the trainer's hooks
            self._checkpointer.save(f"model_{at:07d}", iteration=at)
            _LOGGER.warning("interrupted; saved model_%07d.pth, go on with --resume", at)
        comm.synchronize()  # nobody leaves before it is written
