"""Random numbers that follow from (seed, update) and nothing else."""

import numpy as np
import torch

__all__ = ["generator_for", "uniform_for"]


def generator_for(seed: int, update: int, *more: int) -> torch.Generator:
    """A CPU generator keyed by (seed, update, ...): equal on all ranks, exact on resume.

    Example:
        >>> draws = [torch.rand(1, generator=generator_for(0, 5)).item() for _ in range(2)]
        >>> draws[0] == draws[1]
        True
    """
    key = np.random.SeedSequence([seed % 2**63, update, *more]).generate_state(2)
    return torch.Generator().manual_seed(int(key[0]) << 31 ^ int(key[1]))


def uniform_for(seed: int, update: int) -> float:
    """A number in [0, 1) on the host, keyed by (seed, update).

    Example:
        >>> uniform_for(0, 5) == uniform_for(0, 5) != uniform_for(0, 6)
        True
    """
    key = np.random.SeedSequence([seed % 2**63, update])
    return float(np.random.Generator(np.random.PCG64(key)).random())
