"""A detector's raw losses, normalised once, as the frameworks themselves reduce them."""

import numbers
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from lossweave.combination.terms import TermMap
from lossweave.errors import LossweaveError

__all__ = ["EXTRA", "LossEntries", "detached", "sorted_into"]

#: What may be done with losses that no term claims: they are added as they are, or refused.
EXTRA = ("add", "error")


class LossEntries(Mapping[str, Tensor]):
    """The raw losses of one training forward, each a scalar.

    A tensor of any shape is its mean, a list the sum of its parts' (a part may be a list), a
    number a constant. An empty list is no loss, as in the frameworks, where it adds nothing.

    Args:
        losses: from names to tensors, numbers, or lists of them.

    Raises:
        LossweaveError: a loss of another type.

    Example:
        >>> losses = {"loss_cls": [torch.ones(2), torch.tensor(2.0)], "loss_aux": [], "loss_x": 3}
        >>> entries = LossEntries(losses)
        >>> dict(entries)
        {'loss_cls': tensor(3.), 'loss_x': tensor(3.)}
        >>> entries.lists
        {'loss_cls': [tensor(1.), tensor(2.)]}
    """

    def __init__(self, losses: Mapping[str, Any]) -> None:
        self._parts: dict[str, list[Tensor]] = {}
        self._listed: set[str] = set()
        for name, value in losses.items():
            if isinstance(value, (list, tuple)):
                self._listed.add(name)
                parts = [_scalar(name, part, losses) for part in value if not _is_empty(part)]
            else:
                parts = [_scalar(name, value, losses)]
            if parts:
                self._parts[name] = parts
        self._wholes = {name: _added(parts) for name, parts in self._parts.items()}

    @classmethod
    def of(cls, losses: Mapping[str, Any]) -> "LossEntries":
        """The losses as they are where they are normalised already."""
        return losses if isinstance(losses, cls) else cls(losses)

    @property
    def lists(self) -> dict[str, list[Tensor]]:
        """Of the losses that came as lists, the parts."""
        return {name: parts for name, parts in self._parts.items() if name in self._listed}

    def __getitem__(self, name: str) -> Tensor:
        return self._wholes[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._wholes)

    def __len__(self) -> int:
        return len(self._wholes)


def detached(entries: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Their values alone."""
    return {name: entry.detach() for name, entry in entries.items()}


def sorted_into(
    terms: TermMap, entries: Mapping[str, Tensor], extra: str = "add"
) -> tuple[list[Tensor | None], list[Tensor]]:
    """The terms that some losses make up, in float32 (float64 stays).

    Args:
        terms: which losses belong to which.
        entries: scalars by name.
        extra: 'add' or 'error'; see :data:`EXTRA`.

    Returns:
        By term, in order, the sum of its losses, None where it is absent; and the losses that no
        term claims.

    Raises:
        LossweaveError: there are such, and ``extra`` is 'error'.
    """
    assignment = terms.assign(entries)
    if assignment.extra and extra == "error":
        raise LossweaveError(f"no term claims the losses {list(assignment.extra)} (extra='error')")
    parts = [[_promoted(entries[name]) for name in names] for names in assignment.entries]
    found = [_added(some) if some else None for some in parts]
    return found, [_promoted(entries[name]) for name in assignment.extra]


def _promoted(entry: Tensor) -> Tensor:
    return entry.to(torch.promote_types(entry.dtype, torch.float32))


def _scalar(name: str, value: Any, losses: Mapping[str, Any]) -> Tensor:
    if isinstance(value, Tensor):
        return value if value.dim() == 0 else value.mean()
    if isinstance(value, (list, tuple)):
        return _added([_scalar(name, part, losses) for part in value if not _is_empty(part)])
    if isinstance(value, numbers.Real):
        like = next((found for other in losses.values() for found in _tensors(other)), None)
        return torch.tensor(float(value), device=None if like is None else like.device)
    raise LossweaveError(
        f"the loss {name!r} should be a tensor, a number or a list of them, but is a "
        f"{type(value).__name__}"
    )


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _tensors(part)


def _is_empty(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(_is_empty(part) for part in value)


def _added(parts: list[Tensor]) -> Tensor:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total
