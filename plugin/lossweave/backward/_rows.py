"""What is made of the terms' rows: sums, and inner products."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import combinations_with_replacement
from typing import TypeVar

import torch
from torch import Tensor

__all__ = ["BUCKET", "chunks", "flat", "inner_products", "weighted"]

#: As many elements of a row are sent or combined at a time, so that many small tensors cost as
#: little as a few large ones.
BUCKET = 1 << 20
#: Elements of a row whose inner products are taken at a time, on an accelerator and on a CPU.
_PIECE = (BUCKET, 1 << 17)
#: Up to this many terms, products of pairs of rows, as they lie, take less than to gather them.
_FEW = 4
#: Squares of norms within these bounds lost nothing to float32.
_SAFE = (1e-24, 1e36)

_Item = TypeVar("_Item")


def chunks(items: Iterable[_Item], size: Callable[[_Item], int]) -> Iterator[list[_Item]]:
    """The items in order, as many at a time as a bucket holds."""
    chunk: list[_Item] = []
    held = 0
    for item in items:
        more = size(item)
        if chunk and held + more > BUCKET:
            yield chunk
            chunk, held = [], 0
        chunk.append(item)
        held += more
    if chunk:
        yield chunk


def flat(rows: Sequence[Tensor]) -> Tensor:
    """Some rows as one vector; a single one is not copied."""
    parts = [row.reshape(-1) for row in rows]
    return torch.cat(parts) if len(parts) > 1 else parts[0]


def weighted(rows: Sequence[Sequence[Tensor]], weights: Sequence[float]) -> Sequence[Tensor]:
    r"""Some tensors' rows combined by weights, :math:`\sum_k w_k g_k`, with few launches.

    Args:
        rows: by term and tensor, all of one type.
        weights: of the terms.

    Returns:
        By tensor, in float32 at least. What is given is not changed, but may be returned.

    Example:
        >>> import torch
        >>> weighted([[torch.ones(2)], [torch.ones(2)]], [2.0, 3.0])[0]
        tensor([5., 5.])
    """
    precise = torch.promote_types(rows[0][0].dtype, torch.float32)
    if rows[0][0].dtype is not precise:
        rows = [[row.to(precise) for row in some] for some in rows]
    order = sorted(range(len(rows)), key=lambda k: weights[k] != 1)
    totals = tuple(rows[order[0]])
    own = weights[order[0]] != 1  # autograd may have handed out one tensor twice
    if own:
        totals = torch._foreach_mul(totals, weights[order[0]])
    for k in order[1:]:
        more = tuple(rows[k])
        if own:
            torch._foreach_add_(totals, more, alpha=weights[k])
        else:
            totals, own = torch._foreach_add(totals, more, alpha=weights[k]), True
    return totals


def inner_products(
    units: Sequence[Mapping[int, Tensor]], count: int, device: torch.device
) -> Tensor:
    """The K x K inner products of the terms' rows, in float64.

    For a few terms on a CPU each unit's own products are taken in float32, where its range allows;
    else in float64, without TF32.

    Args:
        units: rows by term, any number of them; where a term is not there, its row is 0.
        count: number of terms K.
        device: of the rows.

    Example:
        >>> import torch
        >>> rows = {0: torch.ones(2), 1: torch.tensor([1.0, -2.0])}
        >>> inner_products([rows], 2, torch.device("cpu")).tolist()
        [[2.0, -1.0], [-1.0, 5.0]]
    """
    if device.type == "cpu" and count <= _FEW:
        found = _in_float32(units, count)
        if found is not None:
            return found
    total = torch.zeros(count, count, dtype=torch.float64, device=device)
    for unit in units:
        like = next(iter(unit.values()))
        rows = [unit[k] if k in unit else torch.zeros_like(like) for k in range(count)]
        parts = (row.reshape(-1).split(_PIECE[device.type == "cpu"]) for row in rows)
        for pieces in zip(*parts, strict=True):  # no unit-wide copy in double
            exact = torch.stack(pieces).double()
            total += exact @ exact.T
    return total


def _in_float32(units: Sequence[Mapping[int, Tensor]], count: int) -> Tensor | None:
    """Of rows as they lie: pieces in float32, their sum in float64; None where rows are not of
    float32, or not within its range when squared."""
    total = [[0.0] * count for _ in range(count)]
    piece = _PIECE[True]
    for rows in units:
        if any(row.dtype is not torch.float32 for row in rows.values()):
            return None
        flat = {k: rows[k].reshape(-1) for k in sorted(rows)}
        for (a, one), (b, other) in combinations_with_replacement(flat.items(), 2):
            if one.numel() <= piece:
                found = torch.dot(one, other).item()
            else:
                dots = map(torch.dot, one.split(piece), other.split(piece))
                found = sum(dot.item() for dot in dots)
            total[a][b] += found
            total[b][a] = total[a][b]
    least, most = _SAFE
    fine = all(least < total[k][k] < most for k in range(count))
    return torch.tensor(total, dtype=torch.float64) if fine else None
