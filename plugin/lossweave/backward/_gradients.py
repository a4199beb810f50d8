"""The gradient root: each term's own gradient, combined where the terms meet."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations_with_replacement
from typing import Any, Protocol

import torch
from torch import Tensor

from lossweave import distributed
from lossweave.backward._stages import run_pass
from lossweave.backward._surroundings import Surroundings

__all__ = ["Method", "gradient_root"]

#: Tensors are gathered up to this many elements before their inner products are taken and
#: their rows are sent, so that many small ones cost as little as a few large ones.
_BUCKET = 1 << 20
#: Elements of a row whose inner products are taken at a time, on an accelerator and on a CPU.
_PIECE = (_BUCKET, 1 << 17)
#: Rows up to this long are gathered on a CPU: to copy one takes less than three products do.
_SMALL = 1 << 14
#: Up to this many terms, products of pairs of rows, as they lie, take less than to gather them.
_FEW = 4
#: Squares of norms within these bounds lost nothing to float32.
_SAFE = (1e-24, 1e36)


class Method(Protocol):
    """What the root asks of a combiner."""

    @property
    def private(self) -> str:
        """'plain' or 'weighted': what becomes of tensors that only one term reaches."""

    @property
    def elementwise(self) -> bool:
        """Whether rows are combined element by element (:meth:`mix`), not by a weight each."""

    def weights_of(self, gramian: Tensor) -> list[float]:
        """The K weights for a K x K Gramian, float64, on the CPU."""

    def mix(self, rows: Sequence[Tensor], key: int) -> Tensor:
        """One tensor's K rows, combined; the key tells tensors (and ranks, where those have
        tensors of their own) apart."""


def gradient_root(
    value: Tensor,
    terms: Sequence[Tensor | None],
    around: Surroundings,
    parameters: Sequence[Tensor],
    method: Method,
    retain: bool = False,
) -> Tensor:
    r"""A scalar whose backward combines the terms' gradients at a boundary.

    Backward runs one pass per term, from the term down to the boundary and to the leaves
    above it (in two stages, see :func:`~lossweave.backward._stages.staged`), with the gradient
    that came in, so a loss scaler's factor and the division by accumulated iterations reach
    every half-precision gradient. With :math:`J` the K rows over
    the boundary and over the leaves that two or more terms reach, divided by that factor, the
    Gramian :math:`G = J J^\top` is summed up tensor by tensor in float64 (for a few terms on a
    CPU each tensor's own products are taken in float32, where its range allows); the method
    turns it into K weights, and each tensor gets :math:`\sum_k w_k g_k`. A leaf that one term
    reaches gets that term's gradient, as it is or weighted. What follows below the boundary is
    one ordinary backward. The terms' graph is released with the last pass through each stage.

    With several ranks, rows of shared parameters are averaged over the ranks first; the
    Gramians of boundary tensors, which belong to a rank's own batch, are summed and divided
    by the squared number of ranks. The collectives are the same on every rank, whatever its
    batch holds.

    Args:
        value: the scalar's value, detached, shape ``()``.
        terms: K attached scalars; None where a term is absent.
        around: what :func:`~lossweave.backward.surroundings` found for them.
        parameters: the model's parameters, in an order that all ranks share.
        method: what makes weights of the Gramian.
        retain: keep the terms' graph, which something else is going to run a backward through.

    Example:
        >>> from lossweave.backward import surroundings
        >>> class Mean:
        ...     private, elementwise = "plain", False
        ...     def weights_of(self, gramian):
        ...         return [1 / len(gramian)] * len(gramian)
        >>> x = torch.ones(2, requires_grad=True)
        >>> terms = [(3 * x).sum(), (5 * x).sum()]
        >>> around = surroundings(terms, [])
        >>> root = gradient_root(torch.tensor(16.0), terms, around, [x], Mean())
        >>> root.backward()
        >>> x.grad
        tensor([4., 4.])
    """
    job = _Job(list(terms), around, list(parameters), method, retain)
    return _GradientRoot.apply(value, job, *job.tensors)


class _GradientRoot(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, job: "_Job", *tensors: Tensor) -> Tensor:
        ctx.job = job
        return value.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        job, ctx.job = ctx.job, None  # what the job holds goes when it is done
        if job is None:
            raise RuntimeError(
                "the terms' graph was released by the first backward through their combination"
            )
        with torch.autocast(grads[0].device.type, enabled=False):
            return None, None, *job.run(grads[0])


class _Job:
    """One backward through the root.

    ``rows[i][k]`` is term k's gradient of tensor i. Tensors are the boundary's, then the
    leaves; what has been used is let go.
    """

    def __init__(
        self,
        terms: list[Tensor | None],
        around: Surroundings,
        parameters: list[Tensor],
        method: Method,
        retain: bool,
    ) -> None:
        self.roots = terms
        self.count = len(terms)
        self.around = around
        self.tensors = [*(point.tensor for point in around.boundary), *around.leaves]
        self.places: list[Any] = [*(point.edge for point in around.boundary), *around.leaves]
        self.parameters = parameters
        self.method = method
        self.retain = retain
        self.ranks = distributed.world_size()
        self.rows: list[dict[int, Tensor]] = [{} for _ in self.tensors]

    def run(self, scale: Tensor) -> list[Tensor | None]:
        """The combined gradient of every tensor, times ``scale``."""
        self._differentiate(scale)
        shared, share = self._agree(scale.device)
        weights = self.method.weights_of(self._gramian(shared, scale))
        results: list[Tensor | None] = [None] * len(self.tensors)
        if self.method.elementwise:
            self._mix(results, shared, share)
        for (terms, weighted, _), group in self._groups(shared).items():
            for bucket in self._buckets(group):
                rows = [[self.rows[i].pop(k) for i in bucket] for k in terms]
                chosen = [weights[k] if weighted else 1.0 for k in terms]
                for i, total in zip(bucket, _weighted(rows, chosen), strict=True):
                    factor = share.get(i, 1.0)
                    total = total if factor == 1.0 else total * factor
                    results[i] = total.to(self.tensors[i].dtype)
        return results

    def _mix(
        self,
        results: list[Tensor | None],
        shared: Mapping[int, Sequence[int]],
        share: Mapping[int, float],
    ) -> None:
        """Combine the rows of each tensor that terms share by the method's own rule."""
        edge = len(self.around.boundary)
        number = {id(parameter): p for p, parameter in enumerate(self.parameters)}
        for i, tensor in enumerate(self.tensors):
            if (i < edge or i in shared) and self.rows[i]:
                rows, self.rows[i] = self.rows[i], {}
                zero = torch.zeros_like(tensor)
                if i < edge:
                    key = 2 * (self.ranks * i + distributed.rank()) + 1
                else:
                    key = 2 * number.get(id(tensor), i)
                total = self.method.mix([rows.get(k, zero) for k in range(self.count)], key)
                results[i] = (total * share.get(i, 1.0)).to(tensor.dtype)

    def _groups(
        self, shared: Mapping[int, Sequence[int]]
    ) -> dict[tuple[tuple[int, ...], bool, torch.dtype], list[int]]:
        """The tensors that have rows: by their terms, by whether these are weighted, by type."""
        edge = len(self.around.boundary)
        found: dict[tuple[tuple[int, ...], bool, torch.dtype], list[int]] = {}
        for i, rows in enumerate(self.rows):
            if rows:
                weighted = i < edge or i in shared or self.method.private == "weighted"
                key = tuple(sorted(rows)), weighted, self.tensors[i].dtype
                found.setdefault(key, []).append(i)
        return found

    def _differentiate(self, scale: Tensor) -> None:
        held: dict[Any, Tensor] = {}
        self.around.passes.reverse()
        while self.around.passes:  # what a pass holds of the graph goes with it
            one = self.around.passes.pop()
            root = self.roots[one.term]
            if one.root:
                self.roots[one.term] = None
            for i, grad in run_pass(one, root, scale, held, self.places, self.retain):
                self.rows[i][one.term] = grad.to_dense() if grad.is_sparse else grad
            del one, root
        self.roots = []

    def _agree(self, device: torch.device) -> tuple[dict[int, list[int]], dict[int, float]]:
        """Which leaves are shared, on all ranks alike.

        Returns:
            By position, in the same order on every rank, the terms that reach a shared leaf
            on any rank; and the factors of leaves that not every rank reaches, whose average
            over the ranks DDP is going to take as if it were 0 there. Negative positions
            stand for parameters that this rank does not reach.
        """
        edge = len(self.around.boundary)
        if self.ranks == 1:
            alone = {}
            for i in range(edge, len(self.tensors)):
                if len(self.rows[i]) > 1:
                    alone[i] = list(self.rows[i])
            return alone, {}
        place = {id(leaf): edge + i for i, leaf in enumerate(self.around.leaves)}
        flags = torch.zeros(self.count + 1, len(self.parameters))
        for p, parameter in enumerate(self.parameters):
            if id(parameter) in place:
                flags[-1, p] = 1
                flags[list(self.rows[place[id(parameter)]]), p] = 1
        found = distributed.sum_(flags.to(device)).tolist()
        shared: dict[int, list[int]] = {}
        share: dict[int, float] = {}
        for p, parameter in enumerate(self.parameters):
            terms = [k for k in range(self.count) if found[k][p] > 0]
            if len(terms) > 1:
                i = place.get(id(parameter), -1 - p)
                shared[i] = terms
                share[i] = self.ranks / max(found[-1][p], 1.0)
        return shared, share

    def _gramian(self, shared: Mapping[int, Sequence[int]], scale: Tensor) -> Tensor:
        # Equal on all ranks but for the division; the sum below gives it back, with equal bits.
        total = self._products(list(shared), self.ranks > 1, scale.device) / self.ranks
        own = self._products(range(len(self.around.boundary)), False, scale.device)
        total = distributed.sum_(total + own / self.ranks**2)
        return (total / scale.double().square()).cpu()

    def _products(self, indexes: Sequence[int], average: bool, device: torch.device) -> Tensor:
        """The K x K inner products of the rows over some tensors, in float64."""
        if not average and device.type == "cpu" and self.count <= _FEW:
            found = _dot_products([self.rows[i] for i in indexes], self.count)
            if found is not None:
                return found
        total = torch.zeros(self.count, self.count, dtype=torch.float64, device=device)
        for bucket in self._buckets(indexes):
            total += _inner_products(self._flat(bucket, average))
        return total

    def _like(self, i: int) -> Tensor:
        return self.tensors[i] if i >= 0 else self.parameters[-1 - i]

    def _buckets(self, indexes: Sequence[int]) -> Iterator[list[int]]:
        bucket: list[int] = []
        held = 0
        for i in indexes:
            like = self._like(i)
            same = not bucket or self._like(bucket[0]).dtype == like.dtype
            if bucket and (held + like.numel() > _BUCKET or not same):
                yield bucket
                bucket, held = [], 0
            bucket.append(i)
            held += like.numel()
        if bucket:
            yield bucket

    def _flat(self, bucket: Sequence[int], average: bool) -> Sequence[Tensor]:
        """The terms' K rows over some tensors, flat; averaged over the ranks on demand."""
        likes = [self._like(i) for i in bucket]
        rows = []
        for k in range(self.count):
            parts = []
            for i, like in zip(bucket, likes, strict=True):
                grad = self.rows[i].get(k) if i >= 0 else None
                parts.append(torch.zeros_like(like).flatten() if grad is None else grad.flatten())
            rows.append(torch.cat(parts) if len(parts) > 1 else parts[0])
        if not average:
            return rows
        stacked = torch.stack(rows)
        distributed.average_(stacked)
        start = 0
        for i, like in zip(bucket, likes, strict=True):
            if i >= 0:
                for k in range(self.count):
                    part = stacked[k, start : start + like.numel()]
                    self.rows[i][k] = part.view(like.shape)
            start += like.numel()
        return stacked.unbind()


def _weighted(rows: Sequence[Sequence[Tensor]], weights: Sequence[float]) -> Sequence[Tensor]:
    """Some tensors' rows, by term and tensor, combined by weights, with few launches."""
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


def _inner_products(rows: Sequence[Tensor]) -> Tensor:
    """Of K flat rows with each other, in float64, piece by piece: no tensor-wide copy in double,
    no TF32."""
    like = rows[0]
    total = torch.zeros(len(rows), len(rows), dtype=torch.float64, device=like.device)
    for piece in zip(*(row.split(_PIECE[like.device.type == "cpu"]) for row in rows), strict=True):
        exact = torch.stack(piece).double()
        total += exact @ exact.T
    return total


def _dot_products(tensors: Sequence[Mapping[int, Tensor]], count: int) -> Tensor | None:
    """The same on a CPU, with only small rows copied: pieces in float32, their sum in float64.

    Args:
        tensors: per tensor, the rows by term.
        count: number of terms.

    Returns:
        None where rows are not of float32, or not within its range when squared.
    """
    groups: dict[tuple[int, ...], list[Mapping[int, Tensor]]] = {}
    for rows in tensors:
        groups.setdefault(tuple(rows), []).append(rows)
    total = [[0.0] * count for _ in range(count)]
    for terms, members in groups.items():
        pieces = {k: _pieces([rows[k] for rows in members]) for k in terms}
        if any(piece.dtype is not torch.float32 for found in pieces.values() for piece in found):
            return None
        for a, b in combinations_with_replacement(sorted(terms), 2):
            products = map(torch.dot, pieces[a], pieces[b])
            total[a][b] = total[b][a] = total[a][b] + sum(product.item() for product in products)
    least, most = _SAFE
    fine = all(least < total[k][k] < most for k in range(count))
    return torch.tensor(total, dtype=torch.float64) if fine else None


def _pieces(rows: Sequence[Tensor]) -> list[Tensor]:
    """One term's rows over some tensors, flat; small ones together, large ones in parts."""
    small: list[Tensor] = []
    pieces: list[Tensor] = []
    for row in rows:
        size = row.numel()
        flat = row if row.dim() == 1 else row.reshape(-1)
        if size <= _SMALL:
            small.append(flat)
        elif size <= _PIECE[True]:
            pieces.append(flat)
        else:
            pieces.extend(flat.split(_PIECE[True]))
    if small:
        pieces.extend(torch.cat(small).split(_PIECE[True]))
    return pieces
