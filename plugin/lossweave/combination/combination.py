"""From a detector's raw losses to the one scalar that is optimised.

:class:`LossCombination` is what the framework adapters put into a detector. It sorts the raw
losses into terms, brings their values to all ranks, asks the combiner (or a tree of them) for
a value and weights, and returns the root scalar of the training step.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lossweave.backward import (
    Boundary,
    BoundaryState,
    GraphCache,
    gradient_root,
    reachability_of,
    reached_leaves,
    weighted_root,
)
from lossweave.combination.settling import SettledTerms
from lossweave.combination.terms import TermMap
from lossweave.combination.tree import TermNode
from lossweave.combiners import Combiner, GradientCombiner, Sum
from lossweave.errors import LossweaveError
from lossweave.progress import Progress
from lossweave.utils import distributed

__all__ = ["LossCombination"]

_LOGGER = logging.getLogger("lossweave")
ON_NONFINITE = ("raise", "skip")
EXTRA = ("add", "error")


class LossCombination(SettledTerms):
    r"""Combine the raw losses of one training iteration into the scalar to be optimised.

    The scalar's value is f of the terms (averaged over the ranks unless f is linear) plus the
    extra entries; its gradient is :math:`\sum_k w_k \nabla L_k` plus theirs. Terms are
    combined in float32 (float64 stays) with autocast off.

    Args:
        node: the combiner, or tree of combiners.
        terms: the leaves' names and patterns.
        extra: what to do with entries that no pattern claims: 'add' them to the scalar as they
            are (said once in the log), or 'error'.
        on_nonfinite: 'raise' lets the framework's hook stop training, from the values that
            logging brings to the host anyway. 'skip' leaves out an optimizer update with a
            non-finite loss, value or weight: weights, momentum and combiner state stay as
            they were on every rank. It costs one reduced flag and one synchronisation an
            iteration. (BatchNorm statistics were updated by the forward pass.)
        hook_line: where the framework's hook is added and how, for messages, e.g. "to the
            config: default_hooks = ...".

    Raises:
        LossweaveError: an unknown option.
    """

    #: What helps where a loss is not finite.
    ADVICE = "lower the learning rate, clip gradients, or set on_nonfinite='skip'"
    window_skipped: Tensor

    def __init__(
        self,
        node: TermNode,
        terms: TermMap,
        extra: Literal["add", "error"] = "add",
        on_nonfinite: Literal["raise", "skip"] = "raise",
        hook_line: str = "",
    ) -> None:
        super().__init__(node, terms)
        for name, value, allowed in (
            ("extra", extra, EXTRA),
            ("on_nonfinite", on_nonfinite, ON_NONFINITE),
        ):
            if value not in allowed:
                raise LossweaveError(f"{name}={value!r} should be one of {', '.join(allowed)}")
        self.extra = extra
        self.on_nonfinite = on_nonfinite
        self.hook_line = hook_line
        self.say: Callable[[str], None] = _LOGGER.info
        #: Whether the framework's hook serves this combination.
        self.hooked = False
        self._progress: Progress | None = None
        self._calls = 0
        self._checked = False
        self._skipping = False
        self._reached: tuple[set[int], set[int]] = (set(), set())
        self._masks: dict[tuple[Any, ...], Tensor] = {}
        self._last: tuple[Tensor, Tensor] | None = None
        self._plain: dict[str, Tensor] = {}
        self._warned = False
        self._graph_cache = GraphCache()
        combiner = node.combiner
        #: Where gradients are combined; None for functions of the losses' values.
        self.boundary = (
            Boundary(combiner.boundary) if isinstance(combiner, GradientCombiner) else None
        )
        if self.boundary is not None and self.boundary.where == "representation":
            self.boundary_state = BoundaryState(self.boundary)
        if on_nonfinite == "skip":  # saved, for checkpoints inside an accumulation window
            self.register_buffer("window_skipped", torch.zeros(1))

    # ------------------------------------------------------------------ what it is made of

    @property
    def combiner(self) -> Combiner:
        """The outermost combiner."""
        return self.node.combiner

    @property
    def combiners(self) -> list[Combiner]:
        """All combiners of the tree, the outermost first."""
        return [node.combiner for node in self.node.nodes()]

    @property
    def is_plain_sum(self) -> bool:
        """Whether the framework's own sum is what is asked for."""
        return all(isinstance(c, Sum) and c.is_plain for c in self.combiners)

    @property
    def holds(self) -> bool:
        """Whether inactive terms must leave their parameters without a gradient."""
        return any(getattr(c, "inactive", None) == "hold" for c in self.combiners)

    @property
    def recomputes(self) -> bool:
        """Whether a combiner asks for the losses of the same batch after the update."""
        return any(getattr(c, "recompute", False) for c in self.combiners)

    @property
    def judged(self) -> bool:
        """Whether a combiner asks for held-out losses after the current update."""
        progress = self._progress or Progress()
        return any(
            c.held_out_interval and (progress.update + 1) % c.held_out_interval == 0
            for c in self.combiners
        )

    @property
    def label(self) -> str:
        """The combiner's name, for logs and file names."""
        return type(self.combiner).__name__

    @property
    def skipping(self) -> bool:
        """Whether the optimizer update of this window must not happen."""
        return self._skipping

    # ------------------------------------------------------------------------ the step

    def set_progress(self, progress: Progress, hooked: bool = True) -> None:
        """Where the training stands, before every training iteration.

        Args:
            progress: the position of the iteration.
            hooked: whether the framework's hook says so; an adapter that reads it elsewhere
                gives False, and combiners that need the hook are refused.
        """
        self._progress = progress
        self.hooked = hooked

    def forward(
        self,
        entries: Mapping[str, Tensor],
        stock_total: Tensor | None = None,
        model: nn.Module | None = None,
    ) -> Tensor:
        """The scalar to be optimised.

        Args:
            entries: the raw losses by name, each reduced to a scalar as the framework does it.
            stock_total: the framework's own sum of them, returned as it is where the combiner
                is the plain sum.
            model: the model whose losses these are; with several processes, combiners of
                gradients need it to know the parameters in one order.

        Returns:
            An attached scalar, shape ``()``, float32 or float64.

        Raises:
            LossweaveError: no entries, or in the first call patterns that match nothing, extra
                entries where they are refused, or a missing hook.
        """
        if not self._checked:
            self._check(entries)
        if not entries:
            raise LossweaveError("the detector's training forward returned no loss at all")
        for line in self.terms.news(entries):
            self.say(line)
        progress = self._begin()
        if self.is_plain_sum and self.on_nonfinite != "skip" and stock_total is not None:
            self._remember_plain(entries)
            return stock_total
        device_type = next(iter(entries.values())).device.type
        with torch.autocast(device_type, enabled=False):
            return self._combine(entries, progress, model)

    def _combine(
        self, entries: Mapping[str, Tensor], progress: Progress, model: nn.Module | None
    ) -> Tensor:
        leaves, extras = self._leaves(entries)
        local, present = self._vector(leaves, extras)
        dtype = local.dtype
        losses, present, bad = self._across_ranks(local, present, extras)
        value, weights, _ = self.node.evaluate(losses, present)
        active = self.node.active_leaves()
        if self.on_nonfinite == "skip":
            value, weights = self._decide_skip(value, weights, bad)
            if progress.last_of_update:
                self.window_skipped.zero_()
        self._last = losses, weights
        if torch.is_grad_enabled():  # else somebody only looks, at a validation loss say
            self.node.learn(progress, skip=self._skipping)
            if self.boundary is not None and not self._skipping:
                return self._combine_gradients(leaves, extras, value, model)

        # DDP waits for every parameter, so there inactive terms stay attached, with weight 0,
        # as they do where nothing else is left to run a backward through.
        held = self.holds and not all(active)
        idle = (
            held
            and not extras
            and not any(a and x is not None for a, x in zip(active, leaves, strict=True))
        )
        attach_all = not held or distributed.world_size() > 1 or idle
        used = [k for k, x in enumerate(leaves) if x is not None and (active[k] or attach_all)]
        attached = [x for k in used if (x := leaves[k]) is not None]
        chosen = weights
        if len(used) < len(leaves) and used:
            chosen = torch.stack([weights[k] for k in used])
        if self._skipping:  # extras stay attached, as DDP wants it, but with weight 0, too
            for x in extras:
                value = value + x.detach().to(dtype)
            attached, extras = [*attached, *extras], []
            chosen = torch.zeros(len(attached), dtype=dtype, device=value.device)
        root = weighted_root(value, chosen, attached) if attached else value
        for x in extras:
            root = root + x.to(dtype)
        if held and (attach_all or progress.accumulation > 1):
            self._note_reach(leaves, active, extras)
        return root

    def _combine_gradients(
        self,
        leaves: Sequence[Tensor | None],
        extras: Sequence[Tensor],
        value: Tensor,
        model: nn.Module | None,
    ) -> Tensor:
        combiner = self.node.combiner
        assert isinstance(combiner, GradientCombiner) and self.boundary is not None
        if model is None and distributed.world_size() > 1:
            raise LossweaveError(f"{self.label} needs the model where several processes train")
        terms = [x if x is None or x.requires_grad else None for x in self.node.attached(leaves)]
        if combiner.computes:
            root = self._gradient_root(terms, value, model, retain=bool(extras))
        else:
            self.boundary.take([])
            combiner.applied = None
            chosen = combiner.kept_weights(value)
            self._last = self._last and (self._last[0], self.node.leaf_weights(chosen))
            used = [k for k, term in enumerate(terms) if term is not None]
            attached = [term for term in terms if term is not None]
            weights = [chosen[k] for k in used]
            root = weighted_root(value, torch.stack(weights), attached) if used else value
        for x in extras:
            root = root + x.to(value.dtype)
        return root

    def _gradient_root(
        self,
        terms: Sequence[Tensor | None],
        value: Tensor,
        model: nn.Module | None,
        retain: bool,
    ) -> Tensor:
        combiner = self.node.combiner
        assert isinstance(combiner, GradientCombiner) and self.boundary is not None
        reachability = reachability_of(terms, self.boundary.take(terms), self._graph_cache)

        def term_of(leaf: Tensor) -> str:
            return combiner.terms[reachability.term_of(leaf)]

        self.boundary.check(reachability.boundary, reachability.leaves, term_of, model)
        self._warn_of_unrelated(reachability.unrelated(), combiner)
        parameters = reachability.leaves  # an order of its own will do where nobody else's matters
        if model is not None and (combiner.elementwise or distributed.world_size() > 1):
            parameters = [p for p in model.parameters() if p.requires_grad]
        return gradient_root(value, terms, reachability, parameters, combiner, retain)

    def _warn_of_unrelated(
        self, pairs: Sequence[tuple[int, int]], combiner: GradientCombiner
    ) -> None:
        if pairs and not self._warned:
            self._warned = True
            names = " or ".join(f"{combiner.terms[a]} with {combiner.terms[b]}" for a, b in pairs)
            self.say(
                f"at boundary={combiner.boundary!r} the gradients of some terms have nothing in "
                f"common ({names}), so they are not reconciled with each other; a boundary "
                "further down ('features', 'parameters') would"
            )

    def _leaves(self, entries: Mapping[str, Tensor]) -> tuple[list[Tensor | None], list[Tensor]]:
        assignment = self.terms.assign(entries)
        leaves: list[Tensor | None] = []
        for names in assignment.entries:
            parts = [_promoted(entries[name]) for name in names]
            leaves.append(_added(parts) if parts else None)
        if assignment.extra and self.extra == "error":
            raise LossweaveError(
                f"no term claims the losses {list(assignment.extra)} (extra='error')"
            )
        return leaves, [_promoted(entries[name]) for name in assignment.extra]

    def _vector(
        self, leaves: Sequence[Tensor | None], extras: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """The leaves' detached values, 0 where absent, and their presence on this rank."""
        like = next(x for x in (*leaves, *extras) if x is not None)
        dtype = like.dtype
        for x in leaves:
            dtype = dtype if x is None else torch.promote_types(dtype, x.dtype)
        zero = torch.zeros((), dtype=dtype, device=like.device)
        local = torch.stack([zero if x is None else x.detach().to(dtype) for x in leaves])
        return local, self._mask([x is not None for x in leaves], local)

    def _across_ranks(
        self, local: Tensor, present: Tensor, extras: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        bad = None
        if self.on_nonfinite == "skip":
            seen = [local, *(x.detach().to(local.dtype).view(1) for x in extras)]
            bad = (~torch.cat(seen).isfinite()).any().to(local.dtype).view(1)
        needs = bad is not None or any(not c.linear or c.learns for c in self.combiners)
        size = distributed.world_size()
        if size == 1 or not needs:
            return local, present, bad
        parts = [local, present.to(local.dtype)]
        packed = distributed.sum_(torch.cat(parts if bad is None else [*parts, bad]))
        count = local.numel()
        summed, there = packed[:count] / size, packed[count : 2 * count] > 0
        return summed, there, None if bad is None else packed[2 * count :]

    def _decide_skip(
        self, value: Tensor, weights: Tensor, bad: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        assert bad is not None
        fine = (bad == 0).all() & value.isfinite() & weights.isfinite().all()
        fine = fine & (self.window_skipped == 0).all()
        if not fine.item():  # the one synchronisation that 'skip' is documented to cost
            self._skipping = True
            self.window_skipped.fill_(1)
            return value, torch.zeros_like(weights)
        return value, weights

    def _begin(self) -> Progress:
        progress = self._progress or Progress(iteration=self._calls)
        self._calls += torch.is_grad_enabled()
        if progress.first_of_update:
            self._skipping = False
            if self.on_nonfinite == "skip":
                self.window_skipped.zero_()
            self._reached = (set(), set())
        for combiner in self.combiners:
            combiner.begin(progress)
        return progress

    def _remember_plain(self, entries: Mapping[str, Tensor]) -> None:
        """Keep the terms for the log; made only when somebody asks, so it costs nothing."""
        self._last = None
        self._plain = {name: entry.detach() for name, entry in entries.items()}

    def _mask(self, flags: list[bool], like: Tensor) -> Tensor:
        key = (tuple(flags), like.device)
        if key not in self._masks:
            self._masks[key] = torch.tensor(flags, device=like.device)
        return self._masks[key]

    # ------------------------------------------------------------- what others may ask

    def measure(self, entries: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The terms' values over all ranks, and which are present, without learning from them.

        Args:
            entries: the raw losses by name, reduced to scalars.

        Returns:
            The values and the presence of the leaves, each of shape ``(leaves,)``.
        """
        local, present = self._vector(*self._leaves(entries))
        if distributed.world_size() == 1:
            return local, present
        packed = distributed.average_(torch.cat([local, present.to(local.dtype)]))
        return packed[: local.numel()], packed[local.numel() :] > 0

    def relearn(self, entries: Mapping[str, Tensor]) -> None:
        """Learn from the losses of the same batch, run once more after the update.

        Args:
            entries: the raw losses by name, reduced to scalars.
        """
        with torch.no_grad():
            self.node.evaluate(*self.measure(entries))
            self.node.relearn()

    def held_out(self, entries: Mapping[str, Tensor]) -> None:
        """Learn from losses on data that is not trained on, where :attr:`judged`.

        Args:
            entries: the raw losses by name, reduced to scalars.
        """
        with torch.no_grad():
            self.node.evaluate(*self.measure(entries))
            self.node.held_out(self._progress or Progress())

    def last(self) -> dict[str, dict[str, float]]:
        """Value and weight of each term in the last iteration. Synchronises: for logs only.

        Example:
            >>> from lossweave.combination import build_combination
            >>> combination = build_combination("Sum", {"cls": ["loss_cls"]})
            >>> _ = combination({"loss_cls": torch.tensor(2.0, requires_grad=True)})
            >>> combination.last()
            {'cls': {'value': 2.0, 'weight': 1.0}}
        """
        if self._last is None:
            leaves, _ = self._leaves(self._plain)
            values = [0.0 if leaf is None else leaf.item() for leaf in leaves]
            weights = [0.0 if leaf is None else 1.0 for leaf in leaves]
        else:
            both = torch.cat(self._last).tolist()
            values, weights = both[: len(self.names)], both[len(self.names) :]
            applied = getattr(self.node.combiner, "applied", None)
            if applied is not None:  # known since the backward pass
                own = torch.tensor(applied).to(self._last[0])
                known = self.node.leaf_weights(own).tolist()
                weights = [0.0 if w == 0 else x for w, x in zip(weights, known, strict=True)]
        return {
            name: {"value": value, "weight": weight}
            for name, value, weight in zip(self.names, values, weights, strict=True)
        }

    def gradient_measures(self) -> dict[str, float]:
        """What a combiner of gradients learned on the way, for logs; empty for others.

        See :meth:`lossweave.combiners.GradientCombiner.measures`. Nothing is read from the
        device.
        """
        combiner = self.node.combiner
        return combiner.measures() if isinstance(combiner, GradientCombiner) else {}

    def logged(self, suffix: str = "") -> dict[str, float]:
        """What the logs get: ``term_NAME`` and ``weight_NAME``, and a combiner's own measures.

        Synchronises.

        Args:
            suffix: added to every name, where a model has several combinations.
        """
        values = {}
        for term, found in self.last().items():
            name = term.replace(".", "_") + suffix
            values[f"term_{name}"] = found["value"]
            values[f"weight_{name}"] = found["weight"]
        for name, measure in self.gradient_measures().items():
            values[name + suffix] = measure
        return values

    def describe(self, values: Mapping[str, float], total: str) -> str:
        """Words for losses that are not finite.

        Args:
            values: these losses by the names in the framework's log.
            total: the name there of what was optimised.

        Example:
            >>> from lossweave.combination import build_combination
            >>> build_combination("Max").describe({"loss_cls": float("nan")}, "loss")
            "loss_cls (term 'cls') is nan"
        """
        raw = [name for name in values if name != total] or list(values)
        assigned = self.terms.assign(raw).entries
        term = {n: t for t, names in zip(self.names, assigned, strict=True) for n in names}
        what = ", ".join(
            f"{name}{f' (term {term[name]!r})' if name in term else ''} is {values[name]}"
            for name in raw
        )
        if raw == [total]:
            what += f"; the terms are finite, their combination by {self.label} is not"
        return what

    def held(self, parameters: Iterable[Tensor]) -> list[Tensor]:
        """The parameters that only inactive terms reach, on any rank, in this update.

        Under DDP every parameter gets a gradient; the framework's hook sets these to None
        before the optimizer steps. A collective where there are several ranks.

        Args:
            parameters: the model's parameters, in an order that all ranks share.
        """
        parameters = [p for p in parameters if p.requires_grad]
        if distributed.world_size() == 1:
            on, off = self._reached
            return [p for p in parameters if id(p) in off and id(p) not in on]
        if not parameters:
            return []
        flags = [[float(id(p) in ids) for p in parameters] for ids in self._reached]
        found = distributed.sum_(torch.tensor(flags, device=parameters[0].device)) > 0
        only_inactive = (found[1] & ~found[0]).tolist()
        return [p for p, held in zip(parameters, only_inactive, strict=True) if held]

    # ------------------------------------------------------------------------ internals

    def _note_reach(
        self,
        leaves: Sequence[Tensor | None],
        active: Sequence[bool],
        extras: Sequence[Tensor],
    ) -> None:
        on = [x for x, a in zip(leaves, active, strict=True) if x is not None and a]
        off = [x for x, a in zip(leaves, active, strict=True) if x is not None and not a]
        self._reached[0].update(id(p) for p in reached_leaves([*on, *extras]))
        self._reached[1].update(id(p) for p in reached_leaves(off))

    def _check(self, entries: Mapping[str, Tensor]) -> None:
        """What can only be seen in the first training forward, before any update."""
        everywhere = [name for names in distributed.gather_objects(list(entries)) for name in names]
        everywhere = list(dict.fromkeys(everywhere))
        if not everywhere:
            raise LossweaveError(
                "the detector's training forward returned no entry with 'loss' in its name, "
                "so there is nothing to combine"
            )
        resumed = self._progress is not None and self._progress.iteration > 0
        device = next((entry.device for entry in entries.values()), torch.device("cpu"))
        self.settle(everywhere, device, resumed, self.say)
        try:
            self.terms.check(everywhere)
        except LossweaveError as error:
            # A resumed run was checked when it began; its first batch may lack a term.
            if not resumed:
                raise
            self.say(f"in the first iteration since resuming, {error}")
        extra = self.terms.assign(everywhere).extra
        if extra and self.extra == "error":
            raise LossweaveError(f"no term claims the losses {list(extra)} (extra='error')")
        if not self.hooked:
            self._check_hook()
        self._checked = True

    def _check_hook(self) -> None:
        skip = self.on_nonfinite == "skip"
        who = "on_nonfinite='skip'" if skip else ""
        who = next((type(c).__name__ for c in self.combiners if c.needs_hook), who)
        if who:
            raise LossweaveError(f"{who} needs the lossweave hook; add {self.hook_line}")
        counts = any(c.learns or c.scheduled for c in self.combiners)
        if counts and self._progress is None:
            self.say(
                "without the lossweave hook every training forward counts as one optimizer "
                f"update, and resuming is not exact; add {self.hook_line}"
            )

    def extra_repr(self) -> str:
        return f"terms={self.terms.patterns}, extra={self.extra}, on_nonfinite={self.on_nonfinite}"


def _promoted(entry: Tensor) -> Tensor:
    return entry.to(torch.promote_types(entry.dtype, torch.float32))


def _added(parts: list[Tensor]) -> Tensor:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total
