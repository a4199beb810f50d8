"""Ctrl-C and other signals as a request to stop: the iteration is finished first."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist

from lossweave.utils.distributed import world_size

__all__ = ["Interrupt", "asked_here", "tell"]

#: Ctrl-C, what schedulers send before they kill, and what a terminal that closes sends.
_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
#: Iterations between two questions to the other processes, where no other exchange carries them.
_ASK_EVERY = 10
#: Those that have the signals, the outermost first.
_taken: list["Interrupt"] = []


def asked_here() -> bool:
    """Whether this process has been asked to stop; for an exchange that takes place anyway."""
    return any(interrupt.asked for interrupt in _taken)


def tell(asked: bool) -> None:
    """What such an exchange, of all processes in one iteration, has found of :func:`asked_here`."""
    for interrupt in _taken:
        interrupt.told = asked


class Interrupt:
    """Takes over the signals that ask to stop; a second Ctrl-C stops at once.

    Schedulers and launchers repeat theirs, so any other signal only counts once. Requests nest:
    what was taken inside another's time is given back to that.

    Args:
        log: where the first request is answered.

    Example:
        >>> interrupt = Interrupt(print)
        >>> with interrupt.taken():
        ...     signal.raise_signal(signal.SIGTERM)
        SIGTERM: finishing this iteration, then saving (Ctrl-C: stop now)
        >>> interrupt.asked
        True
    """

    def __init__(self, log: Callable[[str], None]) -> None:
        self._log = log
        self._previous: dict[int, Any] = {}
        self._at_once = False
        self._group: Any = None
        self._process = os.getpid()
        #: Whether somebody has asked to stop.
        self.asked = False
        #: Whether any process was, as far as another exchange told in this iteration.
        self.told: bool | None = None

    def take(self) -> None:
        """Take the signals over, in the main thread; elsewhere signals are someone else's.

        With several processes all of them take part: they agree in :meth:`agreed`.
        """
        if world_size() > 1 and self._group is None:
            self._group = dist.new_group(backend="gloo")
        self._process = os.getpid()
        if self not in _taken:
            _taken.append(self)
        for number in _SIGNALS:
            # nohup: a closed terminal is no request
            ignored = signal.getsignal(number) is signal.SIG_IGN and number != signal.SIGINT
            if not ignored and number not in self._previous:
                try:
                    self._previous[number] = signal.signal(number, self._note)
                except ValueError:
                    return

    def give_back(self) -> None:
        """Let the signals do again what they did before."""
        if self in _taken:
            _taken.remove(self)
        while self._previous:
            number, handler = self._previous.popitem()
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    @contextmanager
    def taken(self) -> Iterator[None]:
        """The signals are taken over for a while."""
        self.take()
        try:
            yield
        finally:
            self.give_back()

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """A time in which nothing has to be finished first, as in an evaluation.

        Several processes would have to agree, so there a request waits for its end.

        Raises:
            KeyboardInterrupt: somebody asks to stop, or has asked before.
        """
        if self.asked and self.alone:
            raise KeyboardInterrupt
        self._at_once = self.alone
        try:
            yield
        finally:
            self._at_once = False

    @property
    def alone(self) -> bool:
        """Whether there is no other process to agree with."""
        return self._group is None

    def agreed(self, iteration: int) -> bool:
        """Whether to stop after an iteration: asked here, or with several processes anywhere.

        Where an exchange in this iteration has told it (:func:`tell`), that is the answer; else
        these ask each other at some iterations only, on the CPU, so that all stop at the same.

        Args:
            iteration: its number, from 0, the same in all processes.
        """
        if self._group is None:
            return self.asked
        told, self.told = self.told, None
        if told is not None:
            return told
        if (iteration + 1) % _ASK_EVERY:
            return False
        asked = torch.tensor([int(self.asked)])
        dist.all_reduce(asked, op=dist.ReduceOp.MAX, group=self._group)
        return bool(asked)

    def _note(self, number: int, *_: Any) -> None:
        if number == signal.SIGTERM and os.getpid() != self._process:
            # A forked worker, of a pool say, which its parent ends so and waits for.
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        if self._at_once or (self.asked and number == signal.SIGINT):
            self.asked = True
            raise KeyboardInterrupt
        if not self.asked:
            self.asked = True
            name = signal.Signals(number).name
            self._log(f"{name}: finishing this iteration, then saving (Ctrl-C: stop now)")
