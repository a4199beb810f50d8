"""One backward through the gradient root: rows are taken, combined, and given to the tensors."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from itertools import chain
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from lossweave.backward._apart import NOT_EXACT, Apart
from lossweave.backward._hooks import Aside
from lossweave.backward._passes import Pass, explained, run_pass
from lossweave.backward._reach import Reachability
from lossweave.backward._rows import BUCKET, chunks, flat, inner_products, weighted
from lossweave.errors import LossweaveError
from lossweave.utils import distributed
from lossweave.utils.shown_rows import Piece, Shown

__all__ = ["Job", "Method"]

#: Tensors of up to this many elements are gathered, on an accelerator and on a CPU.
_SMALL = (BUCKET, 1 << 14)


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

    @property
    def remembers(self) -> bool:
        """Whether it is to be shown the rows (:meth:`remember`) before it weighs them."""

    def remember(self, shown: Shown) -> list[dict[int, Tensor]] | None:
        """What becomes of the shown rows, piece by piece; None where they stay."""

    def mix(self, rows: Sequence[Tensor], key: int) -> Tensor:
        """One tensor's K rows, combined; the key tells tensors (and ranks, where those have
        tensors of their own) apart."""


class _Unit(NamedTuple):
    """Some tensors whose rows are combined at once.

    Args:
        places: the tensors' positions; several where their rows were gathered.
        rows: by term, as the tensors are shaped, or flat.
    """

    places: list[int]
    rows: dict[int, Tensor]

    @property
    def like(self) -> Tensor:
        """Any of the rows."""
        return next(iter(self.rows.values()))


class Job:
    """One backward through the root.

    ``rows[i][k]`` is term k's gradient of tensor i. Tensors are the boundary's, then the
    leaves; what has been used is let go.
    """

    def __init__(
        self,
        terms: list[Tensor | None],
        reachability: Reachability,
        parameters: list[Tensor],
        method: Method,
        others: Sequence[Tensor],
    ) -> None:
        self.roots = terms
        self.count = len(terms)
        self.reachability = reachability
        self.points = reachability.boundary
        self.tensors = [*(point.entry for point in self.points), *reachability.leaves]
        self.places = [*(point.tensor for point in self.points), *reachability.leaves]
        self.aside = Aside(reachability.leaves, [point.alias_node for point in self.points])
        self.parameters = parameters
        self.method = method
        self.retain = bool(others)
        self.others = others
        # The terms that a backward goes on from, where hooks may be on what they are computed from.
        through = not method.elementwise and self.aside.possible()
        self.through = [k for k, root in enumerate(terms) if through and root is not None]
        self.ranks = distributed.world_size()
        self.rows: list[dict[int, Tensor]] = [{} for _ in self.tensors]
        self.results: list[Tensor | None] = [None] * len(self.tensors)

    def run(self, scale: Tensor) -> list[Tensor | None]:
        """The combined gradient of every tensor, times ``scale``."""
        hooked = self._differentiate(scale)
        shared, share, anywhere = self._agree(scale.device, hooked)
        here = [i for i in shared if i >= 0]
        unaveraged = {i: dict(self.rows[i]) for i in here} if anywhere else {}
        limit = -1 if self.method.elementwise else _SMALL[scale.device.type == "cpu"]
        own = self._gathered(range(len(self.points)), limit)
        common = self._averaged(shared) if self.ranks > 1 else self._gathered(shared, limit)
        gramian = self._gramian(own, common, scale)
        if self.method.remembers:
            gramian = self._remembered(own, common, scale, gramian)
        weights = self.method.weights_of(gramian)
        if hooked:
            return self._hand_down(scale, weights, here)
        if unaveraged:  # as on the ranks where hooks are called, whose gradients are their own
            for i, rows in unaveraged.items():
                self.rows[i] = rows
            common, share = self._gathered(here, limit), {}
        if self.method.elementwise:
            self._mix([*own, *common], share)
        else:
            self._weigh([*own, *common], weights, share)
        left = [_Unit([i], rows) for i, rows in enumerate(self.rows) if rows]
        if self.method.private == "weighted":
            self._weigh(left, weights, {})
        else:
            for (i,), rows in left:
                [self.results[i]] = rows.values()
        return [*(None for _ in self.through), *self.results]

    def _differentiate(self, scale: Tensor) -> bool:
        """Take the rows; whether hooks on tensors above are still to be called."""
        again = self.method.elementwise and self.aside.possible()
        keep = self.retain or bool(self.through) or again
        self._take(self.reachability.passes, scale, keep, self.aside.taken)
        hooked = bool(self.aside.between)
        if hooked and not (self.through or again):
            raise LossweaveError(
                "a hook was put on a tensor after the losses that are computed from it had been "
                "combined, or in an earlier iteration; put it on before"
            )
        if hooked and self.method.elementwise:
            if self.aside.shared:
                raise LossweaveError(
                    "gradients are combined element by element, so a hook on a tensor between "
                    "several terms and the boundary has no one gradient to see; put it on a "
                    "parameter or on a tensor of the boundary, or choose boundary='features'"
                )
            self.rows = [{} for _ in self.tensors]  # of each term's own, as its hooks make them
            passes = [Pass(k, True, [], [], i, True) for k, i in enumerate(self.reachability.terms)]
            self._take(passes, scale, keep, lambda term: self.aside.ends_taken())
            hooked = False
        self.aside.done()
        if not hooked:
            self.roots = []
        return hooked

    def _take(
        self,
        passes: list[Pass],
        scale: Tensor,
        keep: bool,
        aside: Callable[[int], AbstractContextManager[None]],
    ) -> None:
        gradients: dict[Any, Tensor] = {}  # at the cut
        passes.reverse()
        ran = False
        while passes:  # what a pass holds of the graph goes with it
            one = passes.pop()
            root = self.roots[one.term]
            if one.root and not keep:
                self.roots[one.term] = None
            with aside(one.term), explained(bool(self.points), again=ran):
                found = run_pass(one, root, scale, gradients, self.places, keep)
            ran = True
            for i, grad in found:
                self.rows[i][one.term] = grad.to_dense() if grad.is_sparse else grad
            del one, root

    def _hand_down(
        self, scale: Tensor, weights: Sequence[float], shared: Sequence[int]
    ) -> list[Tensor | None]:
        """The terms' own gradients, with which one ordinary backward goes on, hooks called."""
        private = (
            []
            if self.method.private == "weighted"
            else [(i, k, row) for i, rows in enumerate(self.rows) for k, row in rows.items()]
        )
        met = [*self.places[: len(self.points)], *(self.places[i] for i in shared)]
        apart = Apart(self.roots, self.others, met)
        plain = {k for _, k, _ in private}
        down: list[Tensor | None] = []
        for k in self.through:
            root, weight = self.roots[k], weights[k]
            assert root is not None
            if k in plain and apart.starts(root):
                apart.weigh(k, weight)
                weight = 1.0
            down.append((weight * scale).to(root.dtype))
        met_by: dict[int, set[int]] = {}
        for i, k, row in private:
            if not apart.has(self.places[i]):  # where others reach it, the term came weighted
                self.results[i] = (1 - weights[k]) * row
                if weights[k] != 1.0:
                    met_by.setdefault(k, set()).add(id(self.places[i]))
        for k, leaves in met_by.items():
            self.aside.must_not_change(k, partial(apart.meets_others, leaves=leaves), NOT_EXACT)
        self.roots = []
        return [*down, *self.results]

    def _agree(
        self, device: torch.device, hooked: bool
    ) -> tuple[list[int], dict[int, float], bool]:
        """Which leaves are shared, on all ranks alike.

        Returns:
            The positions, in the same order on every rank, of the leaves that two or more terms
            reach, on whatever ranks; and the factors of leaves that not every rank reaches, whose
            average over the ranks DDP is going to take as if it were 0 there. Negative positions
            stand for parameters that this rank does not reach. And whether hooks are called on
            another rank, but not on this one.
        """
        edge = len(self.points)
        if self.ranks == 1:
            return [i for i in range(edge, len(self.rows)) if len(self.rows[i]) > 1], {}, False
        place = {id(leaf): edge + i for i, leaf in enumerate(self.reachability.leaves)}
        flags = torch.zeros(self.count + 2, len(self.parameters))
        flags[-2] = hooked
        for p, parameter in enumerate(self.parameters):
            if id(parameter) in place:
                flags[-1, p] = 1
                flags[list(self.rows[place[id(parameter)]]), p] = 1
        found = distributed.sum_(flags.to(device)).tolist()
        shared: list[int] = []
        share: dict[int, float] = {}
        for p, parameter in enumerate(self.parameters):
            if sum(found[k][p] > 0 for k in range(self.count)) > 1:
                i = place.get(id(parameter), -1 - p)
                shared.append(i)
                share[i] = self.ranks / max(found[-1][p], 1.0)
        return shared, share, not hooked and any(found[-2])

    @contextmanager
    def retained(self) -> Iterator[None]:
        """Where the user retains a boundary tensor's gradient, it is not this backward's."""
        aliases = [point.alias for point in self.points if point.alias.retains_grad]
        before = [alias.grad for alias in aliases]
        yield
        for alias, grad in zip(aliases, before, strict=True):
            alias.grad = grad

    # ------------------------------------------------------------------------ units of rows

    def _like(self, i: int) -> Tensor:
        return self.tensors[i] if i >= 0 else self.parameters[-1 - i]

    def _gathered(self, places: Iterable[int], limit: int) -> list[_Unit]:
        """Units of some tensors: those of no more elements than the limit, together where the same
        terms reach them; others alone."""
        units: list[_Unit] = []
        small: dict[tuple[Any, ...], list[int]] = {}
        for i in places:
            rows, like = self.rows[i], self.tensors[i]
            if not rows:
                continue
            if like.numel() > limit:
                units.append(_Unit([i], rows))
                self.rows[i] = {}
            else:
                small.setdefault((*rows, like.dtype), []).append(i)
        for alike in small.values():
            for some in chunks(alike, lambda i: self.tensors[i].numel()):
                terms = list(self.rows[some[0]])
                rows = {k: flat([self.rows[i].pop(k) for i in some]) for k in terms}
                units.append(_Unit(some, rows))
        return units

    def _averaged(self, places: Iterable[int]) -> list[_Unit]:
        """Units of some parameters in an order that all ranks share, averaged over the ranks."""
        units: list[_Unit] = []
        alike: dict[torch.dtype, list[int]] = {}
        for i in places:
            alike.setdefault(self._like(i).dtype, []).append(i)
        buckets = (chunks(some, lambda i: self._like(i).numel()) for some in alike.values())
        for some in chain.from_iterable(buckets):
            rows = torch.stack([self._row(some, k) for k in range(self.count)])
            distributed.average_(rows)
            if self.method.elementwise:
                parts = rows.split([self._like(i).numel() for i in some], dim=1)
                units += [
                    _Unit([i], dict(enumerate(part))) for i, part in zip(some, parts, strict=True)
                ]
            else:
                units.append(_Unit(some, dict(enumerate(rows))))
        return units

    def _row(self, places: Sequence[int], k: int) -> Tensor:
        """Term k's gradient of some tensors, flat; 0 where it reaches none of them here."""
        found = [self.rows[i].pop(k, None) if i >= 0 else None for i in places]
        return flat(
            [
                torch.zeros_like(self._like(i)) if grad is None else grad
                for i, grad in zip(places, found, strict=True)
            ]
        )

    # ---------------------------------------------------------------------- what is made of them

    def _remembered(
        self, own: Sequence[_Unit], common: Sequence[_Unit], scale: Tensor, gramian: Tensor
    ) -> Tensor:
        """Show the method the rows; the Gramian of what they are then."""
        beside = inner_products([unit.rows for unit in own], self.count, scale.device).diagonal()
        beside = distributed.sum_(beside / self.ranks**2) / scale.double().square()
        if not gramian.isfinite().all():
            return gramian
        number = {id(parameter): p for p, parameter in enumerate(self.parameters)}
        pieces: list[Piece] = []
        for unit in common:
            start = 0
            for i in unit.places:
                like = self._like(i)
                part = slice(start, start + like.numel())
                start = part.stop
                if id(like) not in number:
                    raise LossweaveError(
                        "gradients are remembered by the model's parameters, but some terms share "
                        f"one of {tuple(like.shape)} that is not the model's"
                    )
                rows = {k: row.reshape(-1)[part] for k, row in unit.rows.items()}
                pieces.append(Piece(number[id(like)], rows))
        changed = self.method.remember(
            Shown(self.parameters, pieces, scale, gramian.diagonal(), beside.cpu())
        )
        if changed is None:
            return gramian
        for unit, rows in zip(common, changed, strict=True):  # element by element: a tensor each
            unit.rows.clear()
            unit.rows.update(rows)
        return self._gramian(own, common, scale)

    def _gramian(self, own: Sequence[_Unit], common: Sequence[_Unit], scale: Tensor) -> Tensor:
        ours, theirs = (
            inner_products([unit.rows for unit in units], self.count, scale.device)
            for units in (own, common)
        )
        # Theirs are equal on all ranks; divided, summed up, they are again, to the last bit.
        total = distributed.sum_(theirs / self.ranks + ours / self.ranks**2)
        return (total / scale.double().square()).cpu()

    def _weigh(
        self, units: Sequence[_Unit], weights: Sequence[float], share: Mapping[int, float]
    ) -> None:
        """Combine each unit's rows by weights, those of units of a kind with few launches."""
        kinds: dict[tuple[Any, ...], list[_Unit]] = {}
        for unit in units:
            kinds.setdefault((*unit.rows, unit.like.dtype), []).append(unit)
        for alike in kinds.values():
            for some in chunks(alike, lambda unit: unit.like.numel()):
                terms = list(some[0].rows)
                rows = [[unit.rows.pop(k) for unit in some] for k in terms]
                totals = weighted(rows, [weights[k] for k in terms])
                for unit, total in zip(some, totals, strict=True):
                    self._deliver(unit.places, total, share)

    def _mix(self, units: Sequence[_Unit], share: Mapping[int, float]) -> None:
        """Combine the rows of each unit, one tensor's, by the method's own rule."""
        edge = len(self.points)
        number = {id(parameter): p for p, parameter in enumerate(self.parameters)}
        for (i,), rows in units:
            if i < 0:
                continue
            like = self.tensors[i]
            if i < edge:
                key = 2 * (self.ranks * i + distributed.rank()) + 1
            else:
                key = 2 * number.get(id(like), i)
            every = [
                rows[k].view_as(like) if k in rows else torch.zeros_like(like)
                for k in range(self.count)
            ]
            self._deliver([i], self.method.mix(every, key), share)

    def _deliver(self, places: Sequence[int], total: Tensor, share: Mapping[int, float]) -> None:
        """Give each tensor its part."""
        parts = [total]
        if len(places) > 1:
            parts = list(total.split([self._like(i).numel() for i in places]))
        for i, part in zip(places, parts, strict=True):
            if i >= 0:
                like = self.tensors[i]
                part = part.view(like.shape) if part.shape != like.shape else part
                factor = share.get(i, 1.0)
                part = part if factor == 1.0 else part * factor
                self.results[i] = part.to(like.dtype)
