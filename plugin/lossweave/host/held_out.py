"""Measuring a model in the midst of its training, without a trace in the training."""

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from lossweave.combination.entries import LossEntries

__all__ = ["mean_losses", "seeded", "untouched"]


@contextmanager
def seeded(seed: int = 0) -> Iterator[None]:
    """The same random numbers at every entry; what was before goes on behind.

    Example:
        >>> with seeded():
        ...     one = torch.rand(2)
        >>> with seeded():
        ...     print(torch.equal(one, torch.rand(2)))
        True
    """
    states = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        try:
            random.seed(seed)
            np.random.seed(seed)
            torch.manual_seed(seed)
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Put the model's buffers (the statistics of normalization) back afterwards."""
    kept = [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        yield
    finally:
        for buffer, old in kept:
            buffer.copy_(old)


def mean_losses(found: Iterable[LossEntries]) -> LossEntries:
    """The mean of every loss over the batches that have it, level by level where it has levels.

    Example:
        >>> one, two = LossEntries({"a": 1.0, "b": [1, 2]}), LossEntries({"a": 3.0, "b": [3, 4]})
        >>> mean = mean_losses([one, two])
        >>> dict(mean), mean.lists
        ({'a': tensor(2.), 'b': tensor(5.)}, {'b': [tensor(2.), tensor(3.)]})
    """
    found = list(found)
    means: dict[str, Tensor | list[Tensor]] = {}
    for name in dict.fromkeys(name for losses in found for name in losses):
        having = [losses for losses in found if name in losses]
        levels = [losses.lists.get(name, ()) for losses in having]
        if len({len(some) for some in levels}) == 1 and levels[0]:
            means[name] = [torch.stack(some).mean() for some in zip(*levels, strict=True)]
        else:
            means[name] = torch.stack([losses[name] for losses in having]).mean()
    return LossEntries(means)
