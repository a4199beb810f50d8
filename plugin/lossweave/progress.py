"""Where the training stands, as the host framework tells it."""

from dataclasses import dataclass

__all__ = ["Progress"]


@dataclass(frozen=True)
class Progress:
    """The position of one training iteration (micro-step) in the run.

    Combiners count optimizer UPDATES: with gradient accumulation over ``accumulation``
    iterations, all iterations of one window belong to the same update. Everything here is
    known on the host, so a schedule made of it costs no synchronisation, and it is derived
    from the iteration alone, so a resumed run continues it without any saved state.

    Args:
        iteration: index of the current iteration, from 0.
        accumulation: iterations per optimizer update.
        max_iterations: iterations of the whole run; the last window may be shorter.
        iterations_per_epoch: iterations of one pass over the data.

    Example:
        >>> p = Progress(iteration=5, accumulation=2, iterations_per_epoch=4)
        >>> p.update, p.epoch, p.first_of_update, p.last_of_update
        (2, 1, False, True)
    """

    iteration: int = 0
    accumulation: int = 1
    max_iterations: int | None = None
    iterations_per_epoch: int | None = None

    @property
    def update(self) -> int:
        """Index of the optimizer update that this iteration contributes to, from 0."""
        return self.iteration // self.accumulation

    @property
    def epoch(self) -> int:
        """Epoch in which the current UPDATE began, from 0 (0 where epochs are unknown)."""
        return self.epoch_of(self.update)

    @property
    def first_of_update(self) -> bool:
        """Whether this iteration opens an accumulation window."""
        return self.iteration % self.accumulation == 0

    @property
    def last_of_update(self) -> bool:
        """Whether the optimizer steps after this iteration."""
        done = self.iteration + 1
        return done % self.accumulation == 0 or done == self.max_iterations

    def ends_every(self, updates: int) -> bool:
        """Whether the current update is the last of so many; never of 0.

        Example:
            >>> [Progress(iteration=i).ends_every(2) for i in range(4)]
            [False, True, False, True]
        """
        return updates > 0 and (self.update + 1) % updates == 0

    def epoch_of(self, update: int) -> int:
        """Epoch in which the given update begins."""
        if not self.iterations_per_epoch:
            return 0
        return update * self.accumulation // self.iterations_per_epoch
