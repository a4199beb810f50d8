"""Numbered draws: the data order, and the random state of every sample, follow from a key.

A stock data loader seeds its workers once, so which random numbers a sample meets depends on
which worker loads it and on what that worker loaded before. Here every sample is loaded under
a seed made of (seed, epoch, rank, number of the draw). What comes out is the same for any
number of workers, and the same after a resume from any iteration.
"""

import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_dist_info
from torch.utils.data import BatchSampler, Sampler

from lossweave.registry import DATA_SAMPLERS

__all__ = ["SeededBatch", "SeededBatchSampler", "seed_from"]


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


@DATA_SAMPLERS.register_module()
class SeededBatchSampler(Sampler):
    """Numbers the batches of any batch sampler and seeds their samples by that number.

    In a config, beside any sampler of the framework::

        train_dataloader = dict(batch_sampler=dict(type='lossweave.SeededBatchSampler'))

    Args:
        sampler: the sampler of indices (given by the framework).
        batch_size: samples per batch (given by the framework).
        drop_last: whether an incomplete last batch is left out.
        base: the batch sampler to number, e.g. 'mmdet.AspectRatioBatchSampler' or its dict;
            None means consecutive indices.
        seed: None means the sampler's own.
    """

    def __init__(
        self,
        sampler: Any,
        batch_size: int,
        drop_last: bool = False,
        base: str | dict[str, Any] | None = None,
        seed: int | None = None,
    ) -> None:
        self.sampler = sampler
        self.batch_size = batch_size
        self.drop_last = drop_last
        self.seed = int(getattr(sampler, "seed", None) or 0) if seed is None else seed
        self.start = 0
        if base is None:
            self.base: Any = BatchSampler(sampler, batch_size, drop_last)
        else:
            config = dict(type=base) if isinstance(base, str) else base
            given = dict(sampler=sampler, batch_size=batch_size, drop_last=drop_last)
            self.base = DATA_SAMPLERS.build(config, default_args=given)

    def start_at(self, batch: int) -> None:
        """Leave out the first batches of the next pass, without loading them."""
        self.start = batch

    def __iter__(self) -> Iterator[SeededBatch]:
        start, self.start = self.start, 0
        epoch, rank = int(getattr(self.sampler, "epoch", 0)), get_dist_info()[0]
        for number, batch in enumerate(self.base):
            if number >= start:
                yield SeededBatch(batch, (self.seed, epoch, rank, number))

    def __len__(self) -> int:
        return len(self.base)
