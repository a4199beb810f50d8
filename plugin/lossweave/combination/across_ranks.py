"""The terms' values as all ranks see them."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lossweave.utils import distributed

__all__ = ["Masks", "Vector", "averaged", "vector"]


class Vector(NamedTuple):
    """The values of all terms.

    Args:
        losses: detached, 0 where a term is absent, shape ``(number of terms,)``.
        present: which terms there are, boolean.
        bad: whether something is not finite (not 0), shape ``(1,)``; None where nobody asks.
    """

    losses: Tensor
    present: Tensor
    bad: Tensor | None = None


#: Masks by flags and device: making a tensor of flags in every step would stall a GPU.
Masks = dict[tuple[tuple[bool, ...], torch.device], Tensor]


def vector(
    terms: Sequence[Tensor | None], extras: Sequence[Tensor], masks: Masks, check: bool = False
) -> Vector:
    """The values on this rank.

    Args:
        terms: attached scalars; None where a term is absent.
        extras: the losses that belong to no term.
        masks: those made so far; gathers them.
        check: whether it is asked if all of them are finite.

    Example:
        >>> vector([torch.tensor(2.0), None], [], {})
        Vector(losses=tensor([2., 0.]), present=tensor([ True, False]), bad=None)
    """
    like = next(x for x in (*terms, *extras) if x is not None)
    dtype = like.dtype
    for x in terms:
        dtype = dtype if x is None else torch.promote_types(dtype, x.dtype)
    zero = torch.zeros((), dtype=dtype, device=like.device)
    losses = torch.stack([zero if x is None else x.detach().to(dtype) for x in terms])
    key = tuple(x is not None for x in terms), like.device
    present = masks.get(key)
    if present is None:
        present = masks[key] = torch.tensor(key[0], device=like.device)
    if not check:
        return Vector(losses, present)
    seen = [losses, *(x.detach().to(dtype).view(1) for x in extras)]
    return Vector(losses, present, (~torch.cat(seen).isfinite()).any().to(dtype).view(1))


def averaged(local: Vector) -> Vector:
    """The mean of the values over the ranks; what is present, or not finite, on any of them is so
    on all. One reduction; none in a single process."""
    size = distributed.world_size()
    if size == 1:
        return local
    parts = [local.losses, local.present.to(local.losses.dtype)]
    packed = distributed.sum_(torch.cat(parts if local.bad is None else [*parts, local.bad]))
    count = local.losses.numel()
    bad = None if local.bad is None else packed[2 * count :]
    return Vector(packed[:count] / size, packed[count : 2 * count] > 0, bad)
