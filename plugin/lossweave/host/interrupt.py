"""Ctrl-C as a request: the iteration is finished first."""

import signal
from collections.abc import Callable
from typing import Any

__all__ = ["Interrupt"]


class Interrupt:
    """Takes over the interrupt signal; a second one stops at once.

    Args:
        say: where the first interrupt is answered.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._previous: Any = None
        #: Whether somebody has asked to stop.
        self.asked = False

    def take(self) -> None:
        """Take the signal over, in the main thread; elsewhere signals are someone else's."""
        try:
            self._previous = signal.signal(signal.SIGINT, self._note)
        except ValueError:
            self._previous = None

    def give_back(self) -> None:
        """Let the signal do again what it did before."""
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)
            self._previous = None

    def _note(self, *_: Any) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        self._say("interrupt: finishing this iteration, then saving (again: stop now)")
