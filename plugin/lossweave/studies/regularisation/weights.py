"""What a penalty made of the weights of a finished training."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from lossweave.errors import LossweaveError

__all__ = ["NEAR_ZERO", "WeightSizes", "sizes_in", "sizes_of"]

#: Weights that are no larger count as zero, in the shares of a :data:`WeightSizes`.
NEAR_ZERO = (1e-4, 1e-3, 1e-2)

#: The sum of |w|, half the sum of squares, how many weights, and the share near zero by limit.
WeightSizes = dict[str, float]


def sizes_of(weights: Sequence[Tensor]) -> WeightSizes:
    """How large some weights are.

    Args:
        weights: of any shapes.

    Example:
        >>> sizes_of([torch.tensor([3.0, -4.0]), torch.tensor([0.0, 0.5])])["l2"]
        12.625
    """
    everything = torch.cat([one.detach().double().flatten() for one in weights]).abs()
    shares = {f"below {limit:g}": float((everything <= limit).double().mean())
              for limit in NEAR_ZERO}  # fmt: skip
    return dict(
        l1=float(everything.sum()),
        l2=float(everything.square().sum() / 2),
        count=float(len(everything)),
        **shares,
    )


def sizes_in(checkpoint: str | Path, modules: Sequence[str]) -> WeightSizes:
    """Likewise of some modules in a checkpoint.

    Args:
        checkpoint: MMEngine's.
        modules: names at the top of the detector, or patterns of names.

    Raises:
        LossweaveError: no weights of that name are in it.
    """
    state: Mapping[str, Tensor] = torch.load(
        checkpoint, map_location="cpu", weights_only=False
    )["state_dict"]  # fmt: skip
    found = [
        value
        for name, value in state.items()
        if name.endswith((".weight", ".bias"))
        and any(fnmatch.fnmatchcase(name, f"{pattern}.*") for pattern in modules)
    ]
    if not found:
        raise LossweaveError(f"{checkpoint} has no weights of {', '.join(modules)}")
    return sizes_of(found)
