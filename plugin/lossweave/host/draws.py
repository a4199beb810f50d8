"""Numbered draws: the data order, and the random state of every sample, follow from a key.

A stock data loader seeds its workers once, so which random numbers a sample meets depends on
which worker loads it and on what that worker loaded before. Here every sample is loaded under
a seed made of its batch's key, (seed, rank, number of the draw) say. What comes out is the same
for any number of workers, and the same after a resume from any iteration.
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

__all__ = ["SeededBatch", "numbered", "seed_from", "seed_main"]

_MAIN = 2**31  # sets the main process's seeds apart from those of the draws


def seed_from(*key: int) -> int:
    """A 32-bit seed from a key of non-negative integers.

    Example:
        >>> seed_from(0, 1, 2) == seed_from(0, 1, 2), seed_from(0, 1, 2) == seed_from(0, 2, 1)
        (True, False)
    """
    return int(np.random.SeedSequence(key).generate_state(1)[0])


class SeededBatch(list):
    """A batch of indices that seeds the random states as it is iterated, once per index.

    A data loader's fetcher iterates over the batch and loads each sample as its index comes,
    in a worker or in the main process; both therefore load it under the same state. Once
    exhausted, the states are as they were before.

    Args:
        indices: indices into the data set.
        key: what the seeds are made of, beside the position in the batch.

    Example:
        >>> def draw(batch): return [(i, random.random()) for i in batch]
        >>> draw(SeededBatch([3, 1], (0, 0))) == draw(SeededBatch([3, 1], (0, 0)))
        True
    """

    def __init__(self, indices: Sequence[int], key: tuple[int, ...]) -> None:
        super().__init__(indices)
        self.key = key

    def __iter__(self) -> Iterator[int]:
        generator = torch.random.default_generator  # the CPU's alone; a GPU's is left alone
        states = random.getstate(), np.random.get_state(), generator.get_state()
        try:
            for position, index in enumerate(super().__iter__()):
                seed = seed_from(*self.key, position)
                random.seed(seed)
                np.random.seed(seed)
                generator.manual_seed(seed)
                yield index
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
            generator.set_state(states[2])

    def __reduce__(self) -> tuple[Any, ...]:
        return SeededBatch, (self[:], self.key)


def numbered(
    batches: Iterable[Sequence[int]], key: tuple[int, ...], start: int = 0
) -> Iterator[SeededBatch]:
    """The batches from number ``start`` on, each seeded by the key and its number.

    Example:
        >>> [(list.copy(b), b.key) for b in numbered([[3, 1], [0, 2]], (7,), start=1)]
        [([0, 2], (7, 1))]
    """
    for number, batch in enumerate(batches):
        if number >= start:
            yield SeededBatch(batch, (*key, number))


def seed_main(seed: int, rank: int, iteration: int) -> None:
    """Seed the main process for one iteration, apart from the seeds of the draws."""
    key = seed_from(seed, _MAIN, rank, iteration)
    random.seed(key)
    np.random.seed(key)
    torch.manual_seed(key)
