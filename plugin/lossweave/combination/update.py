"""The optimizer update under way: which of its forwards' results the backward reached."""

from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from lossweave.combination.step import StepResult

__all__ = ["Update"]


class Update:
    """What has become of the results of one update's forwards.

    A result counts when a backward reaches its root. One that no backward reaches, of a forward
    that only looks, teaches nothing.

    Example:
        >>> update, root = Update(), torch.ones((), requires_grad=True) * 2
        >>> update.add(StepResult({}), root)
        >>> len(update.reached)
        0
        >>> root.backward()
        >>> len(update.reached), update.skipping
        (1, False)
    """

    def __init__(self) -> None:
        #: Of the training forwards, the last one's result.
        self.latest: StepResult | None = None
        #: The results that have been reached since the last iteration ended.
        self.reached: list[StepResult] = []
        #: The results of this iteration that have been taken.
        self.shown: list[StepResult] = []
        #: Training forwards in this update, and results reached.
        self.forwards = self.backwards = 0
        self._flags: list[Tensor] = []
        self._bad = False

    def begin_iteration(self) -> None:
        """Begin another iteration."""
        self.shown = []

    def begin(self) -> None:
        """Begin another update."""
        self.forwards = self.backwards = 0
        self._flags, self._bad = [], False

    def add(self, result: StepResult, root: Tensor) -> None:
        """Take a forward's result, and watch its root."""
        self.latest = result
        self.forwards += 1
        self.watch([root])

    def watch(self, roots: Iterable[Any]) -> None:
        """Watch the first of these that a backward can reach, for the last forward's result."""
        for root in roots:
            if isinstance(root, Tensor) and root.requires_grad and self.latest is not None:
                root.register_hook(partial(self.reach, self.latest))
                return

    def reach(self, result: StepResult, grad: Tensor | None = None) -> None:
        """Take note that a backward has reached a result's root.

        Args:
            result: one that was added.
            grad: the gradient there, as a tensor's hook is given it; not looked at.
        """
        if any(known is result for known in self.reached):
            return
        self.reached.append(result)
        self.backwards += 1
        if result.fine is not None:
            self._flags.append(result.fine)

    def take(self) -> list[StepResult]:
        """The results that have been reached since this was last asked."""
        found, self.reached = self.reached, []
        self.shown += found
        return found

    def note(self, fine: Tensor) -> None:
        """Take note of a flag, on the device, that tells whether all is finite."""
        self._flags.append(fine)

    @property
    def skipping(self) -> bool:
        """Whether something in it was not finite. Reads the flags that have not been read yet, all
        at once."""
        flags, self._flags = self._flags, []
        if flags and not self._bad:
            together = flags[0] if len(flags) == 1 else torch.stack(flags).all()
            self._bad = not together.item()
        return self._bad

    @property
    def results(self) -> list[StepResult]:
        """What logs show: the iteration's results that were reached, or else the last there was."""
        latest = [] if self.latest is None else [self.latest]
        return [*self.shown, *self.reached] or latest
