"""The optimizer update under way: which of its forwards' results the backward reached."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from lossweave.backward import unwatched
from lossweave.combination.step import StepResult

__all__ = ["Expected", "Update"]


class Update:
    """What has become of the results of one update's forwards.

    A result counts when a backward reaches its root. One that no backward reaches, of a forward
    that only looks, teaches nothing.

    Example:
        >>> update = Update()
        >>> root = torch.ones((), requires_grad=True) * 2
        >>> expected = update.expect()
        >>> expected.watch([root])
        >>> update.add(StepResult({}), expected)
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

    def expect(self) -> "Expected":
        """What a forward's root tells when a backward reaches it, before its result is known."""
        return Expected(self)

    def add(self, result: StepResult, expected: "Expected") -> None:
        """Take a forward's result, whose root tells when it is reached."""
        self.latest = expected.result = result
        self.forwards += 1

    def reach(self, result: StepResult) -> None:
        """Take note that a backward has reached a result's root."""
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


class Expected:
    """Called when a backward reaches a root.

    Args:
        update: what is told.
    """

    def __init__(self, update: Update) -> None:
        self.update = update
        self.result: StepResult | None = None

    def __call__(self) -> None:
        if self.result is not None:
            self.update.reach(self.result)

    def watch(self, roots: Iterable[Any]) -> None:
        """Be told by the first of these that a backward can reach: a root of the framework's."""
        for root in roots:
            if isinstance(root, Tensor) and root.requires_grad:
                with unwatched():  # it is above what combiners of gradients differentiate
                    root.register_hook(lambda grad: self())
                return
