"""The root of a combination of values."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lossweave.backward import weighted_root

__all__ = ["value_root"]


def value_root(
    value: Tensor,
    weights: Tensor,
    terms: Sequence[Tensor | None],
    used: Sequence[int],
    extras: Sequence[Tensor],
    on_reached: Callable[[], None],
    fine: Tensor | None = None,
) -> Tensor:
    """A scalar of a given value, whose gradient is the weighted sum of the terms'.

    Args:
        value: the combination's, detached.
        weights: of all terms; 0 where they are not to count.
        terms: attached scalars; None where a term is absent.
        used: the positions of those that stay attached.
        extras: the losses that belong to no term, added as they are.
        on_reached: called when a backward reaches the scalar.
        fine: where it is false, extras count for nothing, either.

    Returns:
        An attached scalar. Where nothing that is left needs a gradient, a backward through it
        runs and trains nothing.
    """
    attached = [x for k in used if (x := terms[k]) is not None]
    chosen = weights if attached else weights[:0]
    if attached and len(used) < len(terms):
        chosen = torch.stack([weights[k] for k in used])
    if fine is not None:
        for x in extras:
            value = value + x.detach().to(value.dtype)
        ones = fine.to(weights.dtype).expand(len(extras))
        chosen = torch.cat([chosen, ones])
        attached, extras = [*attached, *(x.to(value.dtype) for x in extras)], []
    if not any(x.requires_grad for x in attached):
        value = value.detach().requires_grad_()
    root = weighted_root(value, chosen, attached, on_reached)
    for x in extras:
        root = root + x.to(value.dtype)
    return root
