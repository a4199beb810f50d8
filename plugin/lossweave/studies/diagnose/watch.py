"""Looks at a training from beside it: by hooks on the combination, the neck and the optimizers.

Nothing that the training computes is changed, no random number is drawn, and between the looks
nothing is done at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import sqrt
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from lossweave.backward import GraphCache, reach, reachability_of, term_rows, unwatched
from lossweave.combination import LossCombination
from lossweave.combination.entries import LossEntries, sorted_into
from lossweave.host.optimizer_step import torch_optimizers
from lossweave.studies.diagnose.findings import OTHERS
from lossweave.studies.diagnose.parts import parts_of
from lossweave.studies.diagnose.record import Look, Record, Table
from lossweave.studies.diagnose.sketch import Sketches
from lossweave.studies.diagnose.taken import Rows, Steps, added, steps_of, table_of, zero_table
from lossweave.utils.torch_compat import edge_of, takes_edges

__all__ = ["Plan", "Watch"]


@dataclass(frozen=True)
class Plan:
    """When to look.

    Args:
        interval: optimizer updates from look to look.
        windows: by stage, the parts of the training in which there are looks, as iterations
            ``(first, last + 1)``, counted from 0.
    """

    interval: int
    windows: Mapping[str, tuple[int, int]]

    def stage(self, iteration: int) -> str | None:
        """The stage that an iteration belongs to."""
        return next((n for n, (a, b) in self.windows.items() if a <= iteration < b), None)


@dataclass
class _Gathered:
    """What is known of the update that is being looked at."""

    stage: str
    rows: Rows = field(default_factory=dict)
    values: list[float] = field(default_factory=list)
    present: list[bool] = field(default_factory=list)
    features: Table | None = None
    before: dict[str, Tensor] = field(default_factory=dict)
    steps: Steps | None = None


class Watch:
    """Looks at a training.

    ::

        watch.begin(model, combination, optimizers)
        watch.before(iteration, accumulation)   # before every iteration
        look = watch.after(iteration)           # after it; a look, where there is one
        watch.end()
        watch.record(iterations, seconds)

    Args:
        plan: when.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.looks: list[Look] = []
        #: Seconds that the looks took.
        self.seconds = 0.0
        self._due: _Gathered | None = None
        self._last = True
        self._share = 1.0
        self._handles: list[Any] = []
        self._squares: dict[str, Tensor] = {}
        self._sketches: dict[str, Sketches] = {}
        self._cache = GraphCache()
        self._features: list[Any] = []

    # ------------------------------------------------------------------------ the training

    def begin(self, model: nn.Module, combination: LossCombination, optimizers: Any) -> None:
        """Put the hooks in place.

        Args:
            model: without a wrapper.
            combination: its plain sum.
            optimizers: all that step it, or what wraps them.
        """
        self.combination = combination
        self.optimizers = [one for some in optimizers for one in torch_optimizers(some)]
        self._parts = parts_of(model)
        trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self._names = {id(p): name for name, p in trained.items()}
        self._sizes = {name: p.numel() for name, p in trained.items()}
        self._device = next(iter(trained.values())).device
        last = _features_module(model)
        with unwatched():
            self._handles = [combination.register_forward_hook(self._forwarded)]
            if last is not None:
                self._handles.append(last.register_forward_hook(self._featured))
        for one in self.optimizers:
            self._handles.append(one.register_step_pre_hook(self._before_step))
            self._handles.append(one.register_step_post_hook(self._after_step))

    def before(self, iteration: int, accumulation: int = 1) -> None:
        """Before an iteration.

        Args:
            iteration: its number, from 0.
            accumulation: iterations of an update.
        """
        update, place = divmod(iteration, accumulation)
        self._last, self._share = place == accumulation - 1, 1 / accumulation
        if place == 0:
            stage = self.plan.stage(iteration)
            due = stage is not None and (update + 1) % self.plan.interval == 0
            self._due = _Gathered(stage) if due and stage is not None else None

    def after(self, iteration: int) -> Look | None:
        """After an iteration; the look that it ends."""
        due = self._due
        if due is None or not self._last:
            return None
        self._due = None
        if not due.rows:
            return None
        with self._timed():
            look = self._look(iteration + 1, due)
        self.looks.append(look)
        return look

    def end(self) -> None:
        """Take the hooks away."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    # ------------------------------------------------------------------------------ hooks

    def _featured(self, module: nn.Module, inputs: Any, output: Any) -> None:
        if self._due is not None and torch.is_grad_enabled():
            tensors = [x for x in _tensors(output) if x.grad_fn is not None]
            self._features = [
                (x.grad_fn, x.output_nr, edge_of(x.grad_fn, x.output_nr) if takes_edges() else x)
                for x in tensors
            ]

    def _forwarded(self, combination: LossCombination, args: Any, root: Tensor) -> None:
        features, self._features = self._features, []
        if self._due is None or not torch.is_grad_enabled():
            return
        with self._timed(), torch.autocast(root.device.type, enabled=False):
            self._gather(self._due, args[0], features)

    def _before_step(self, optimizer: Any, *_: Any) -> None:
        if self._due is not None and self._last and not self._due.before:
            with self._timed(), torch.no_grad():
                self._due.before = {
                    self._names[id(p)]: p.detach().clone()
                    for one in self.optimizers
                    for group in one.param_groups
                    for p in group["params"]
                    if p.requires_grad and id(p) in self._names
                }

    def _after_step(self, optimizer: Any, *_: Any) -> None:
        if self._due is None or not self._last or optimizer is not self.optimizers[-1]:
            return
        if self._due.steps is None:
            with self._timed(), torch.no_grad():
                self._due.steps = steps_of(
                    self.optimizers, self._names, self._due.rows, self._due.before,
                    self._squares, len(self.looks) + 1, len(self._due.values),
                )  # fmt: skip

    # ------------------------------------------------------------------------------- a look

    def _gather(self, due: _Gathered, losses: Mapping[str, Any], features: list[Any]) -> None:
        """Take the rows of one forward."""
        entries = LossEntries.of(losses)
        split = self.combination.terms.split(entries, entries.lists)
        found, extras = sorted_into(self.combination.terms, split, self.combination.extra)
        others = sum(extras[1:], extras[0]) if extras else None
        terms = [x if x is not None and x.requires_grad else None for x in (*found, others)]
        edges = _lowest(features)
        reachability = reachability_of(terms, [], self._cache)
        rows = term_rows(terms, reachability, edges)
        values = [0.0 if x is None else float(x.detach()) for x in (*found, others)]
        count = len(terms)
        due.values = due.values or [0.0] * count
        due.present = due.present or [False] * count
        for k, value in enumerate(values):
            due.values[k] += self._share * value
            due.present[k] |= terms[k] is not None
        leaves = len(reachability.leaves)
        for leaf, own in zip(reachability.leaves, rows, strict=False):
            if id(leaf) not in self._names:
                continue
            kept = due.rows.setdefault(self._names[id(leaf)], {})
            for k, row in own.items():
                row = row if self._share == 1 else self._share * row
                kept[k] = kept[k] + row if k in kept else row
        if edges:
            table = table_of(rows[leaves:], count)
            scaled = [[self._share**2 * x for x in row] for row in table]
            due.features = scaled if due.features is None else added(due.features, scaled)

    @torch.no_grad()
    def _look(self, iteration: int, due: _Gathered) -> Look:
        count = len(due.values)
        parts, shared = {}, zero_table(count)
        for part, names in self._parts.items():
            units = [due.rows[name] for name in names if due.rows.get(name)]
            several = table_of([unit for unit in units if len(unit) > 1], count)
            alone = table_of([unit for unit in units if len(unit) == 1], count)
            parts[part], shared = added(several, alone), added(shared, several)
        whole = added(*parts.values())
        self._add_up(due, whole)
        norm = sqrt(max(0.0, sum(map(sum, whole))))
        steps = due.steps or Steps(whole, whole, [0.0] * count, norm**2, 0.0)
        return Look(
            iteration=iteration, stage=due.stage, values=due.values, present=due.present,
            shared=shared, whole=whole, features=due.features, parts=parts,
            sgd=steps.sgd, adam=steps.adam, effects=steps.effects, norm=norm,
            clipped=min(1.0, sqrt(steps.grad) / norm) if norm > 0 else 1.0,
            rate=max(float(g["lr"]) for one in self.optimizers for g in one.param_groups),
            tiny=steps.tiny,
        )  # fmt: skip

    def _add_up(self, due: _Gathered, whole: Table) -> None:
        every = []
        for k in range(len(whole)):
            pieces = [
                due.rows[name][k].reshape(-1).float()
                if k in due.rows.get(name, {})
                else torch.zeros(size, device=self._device)
                for name, size in self._sizes.items()
            ]
            every.append(torch.cat(pieces))
        self._sketches.setdefault(due.stage, Sketches()).add(every, whole)

    @contextmanager
    def _timed(self) -> Iterator[None]:
        begun = perf_counter()
        yield
        self.seconds += perf_counter() - begun

    # ----------------------------------------------------------------------------- in the end

    def record(self, iterations: int, seconds: float, interrupted: bool = False) -> Record:
        """What has been seen.

        Args:
            iterations: that were trained.
            seconds: that it took, looks included.
            interrupted: whether somebody stopped it.
        """
        names = [*self.combination.names, OTHERS]
        if not any(look.present[-1] for look in self.looks):
            names.pop()
        count = len(names)
        looks = [_cut(look, count) for look in self.looks]
        return Record(
            terms=names,
            optimizer=" and ".join(dict.fromkeys(_class_of(one) for one in self.optimizers)),
            adaptive=any(_adaptive(one) for one in self.optimizers),
            looks=looks,
            means={stage: one.means(count) for stage, one in self._sketches.items()},
            reached={
                part: [n for k, n in enumerate(names) if any(x.parts[part][k][k] for x in looks)]
                for part in self._parts
            },
            iterations=iterations,
            interval=self.plan.interval,
            seconds={"training": seconds, "looking": self.seconds},
            interrupted=interrupted,
        )


def _features_module(model: Any) -> nn.Module | None:
    """The last module whose output all heads see: neck, or backbone."""
    for name in ("neck", "backbone"):
        module = getattr(model, name, None)
        if isinstance(module, nn.Module):
            return module
    return None


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _tensors(part)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for part in value:
            yield from _tensors(part)


def _lowest(features: Sequence[tuple[Any, int, Any]]) -> list[Any]:
    """Of the features, those that no other one is needed for: every path from the heads down
    passes one of them once (the P7 of a pyramid is computed from its P6)."""
    nodes = {node for node, _, _ in features}
    kept = []
    for node, _, edge in features:
        below = [following for following in node.next_functions if following[0] is not None]
        found = reach(below, nodes - {node})
        if not found.cut:
            kept.append(edge)
    return kept


def _cut(look: Look, count: int) -> Look:
    """The look with its first terms alone."""
    plain = vars(look)
    tables = {name: _square(plain[name], count) for name in ("shared", "whole", "sgd", "adam")}
    lists = {name: plain[name][:count] for name in ("values", "present", "effects")}
    features = None if look.features is None else _square(look.features, count)
    parts = {part: _square(table, count) for part, table in look.parts.items()}
    return Look(**{**plain, **tables, **lists, "features": features, "parts": parts})


def _square(table: Table, count: int) -> Table:
    return [row[:count] for row in table[:count]]


def _adaptive(optimizer: Any) -> bool:
    return any(
        name in state
        for state in optimizer.state.values()
        for name in ("exp_avg_sq", "square_avg")
    )


def _class_of(optimizer: Any) -> str:
    """The optimizer's class by its own name, whatever a framework made of it to clip."""
    kind: Callable[..., Any] = type(optimizer)
    named = next((c for c in type(optimizer).__mro__ if c.__module__.startswith("torch.")), kind)
    return named.__name__
