"""Measuring a model in the midst of its training, without a trace in the training."""

import random
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

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


def mean_losses(found: Iterable[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of every loss over the batches that have it.

    Example:
        >>> mean_losses([{"a": torch.tensor(1.0)}, {"a": torch.tensor(3.0)}])
        {'a': tensor(2.)}
    """
    found = list(found)
    names = dict.fromkeys(name for losses in found for name in losses)
    parts = {name: [losses[name] for losses in found if name in losses] for name in names}
    return {name: torch.stack(values).mean() for name, values in parts.items()}
