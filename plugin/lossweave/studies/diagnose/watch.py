"""Looks at a training from beside it: by hooks on the combination, the neck and the optimizers.

Nothing that the training computes is changed, no random number is drawn, and between the looks
nothing is done at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import sqrt
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from lossweave.backward import unwatched
from lossweave.combination import LossCombination
from lossweave.host.optimizer_step import torch_optimizers
from lossweave.studies.diagnose.findings import OTHERS
from lossweave.studies.diagnose.gathering import Gathered, Gatherer
from lossweave.studies.diagnose.parts import parts_of
from lossweave.studies.diagnose.record import Look, Record, Table
from lossweave.studies.diagnose.sketch import Sketches
from lossweave.studies.diagnose.taken import Steps, added, steps_of, table_of, zero_table

__all__ = ["Plan", "Watch"]

#: Of so many looks one takes every term's gradient by a pass of its own, and the features'; in the
#: others the longest is what the rest leave of the whole.
_THOROUGH = 8


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
        self._due: Gathered | None = None
        self._last = True
        self._share = 1.0
        self._handles: list[Any] = []
        self._squares: dict[str, Tensor] = {}
        self._sketches: dict[str, Sketches] = {}
        self._at_rest: tuple[str, Sketches] | None = None
        self._buffers: list[tuple[Tensor, Tensor]] = []

    # ------------------------------------------------------------------------ the training

    def begin(
        self, model: nn.Module, combination: LossCombination, optimizers: Any, scaled: bool = False
    ) -> None:
        """Put the hooks in place.

        Args:
            model: without a wrapper.
            combination: its plain sum.
            optimizers: all that step it, or what wraps them.
            scaled: whether a loss scaler comes before the backward.
        """
        self._model, self._parts = model, parts_of(model)
        self.combination, self._scaled = combination, scaled
        self.optimizers = [one for some in optimizers for one in torch_optimizers(some)]
        self._gatherer = Gatherer(model, combination)
        with unwatched():
            self._handles = [combination.register_forward_hook(self._forwarded)]
            if self._gatherer.last is not None:
                self._handles.append(self._gatherer.last.register_forward_hook(self._featured))
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
        simple = accumulation == 1 and not self._scaled
        if self._at_rest is not None:
            self._share = 1.0
            self._due = Gathered(self._at_rest[0], self._longest() if simple else None)
        elif place == 0:
            stage = self.plan.stage(iteration)
            due = stage is not None and (update + 1) % self.plan.interval == 0
            rest = self._longest() if simple and len(self.looks) % _THOROUGH else None
            self._due = Gathered(stage, rest) if due and stage is not None else None

    def after(self, iteration: int) -> Look | None:
        """After an iteration; the look that it ends."""
        due = self._due
        if due is None or not (self._last or self._at_rest):
            return None
        self._due = None
        due.done_waiting()
        if not due.rows:
            return None
        if self._at_rest is not None:
            with torch.no_grad():
                self._rested(due, self._at_rest[1])
            return None
        with self._timed(), torch.no_grad():
            look = self._look(iteration + 1, due)
        self.looks.append(look)
        return look

    @property
    def at_rest(self) -> bool:
        """Whether the weights stand still."""
        return self._at_rest is not None

    def stand_still(self) -> None:
        """From now on look at every batch, and keep the weights (and, in the end, all other
        state of the model) as they are."""
        self._at_rest = (self.looks[-1].stage, Sketches())
        self._buffers = [(x, x.detach().clone()) for x in self._model.buffers()]

    def end(self) -> None:
        """Take the hooks away."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        with torch.no_grad():
            for buffer, before in self._buffers:
                buffer.copy_(before)
        self._buffers = []

    # ------------------------------------------------------------------------------ hooks

    def _featured(self, module: nn.Module, inputs: Any, output: Any) -> None:
        if self._due is not None and self._due.rest is None and torch.is_grad_enabled():
            self._gatherer.caught(output)

    def _forwarded(self, combination: LossCombination, args: Any, root: Tensor) -> None:
        if self._due is not None and torch.is_grad_enabled():
            with self._timed(), torch.autocast(root.device.type, enabled=False):
                self._gatherer.take(self._due, args[0], self._share)

    def _before_step(self, optimizer: Any, *_: Any) -> None:
        stepped = [(g, p) for one in self.optimizers for g in one.param_groups for p in g["params"]]
        if self._at_rest is not None:
            for _, parameter in stepped:
                parameter.grad = None  # neither momentum nor weight decay moves it then
        elif self._due is not None and self._last and not self._due.before:
            names = self._gatherer.names
            with self._timed():
                self._due.before = {
                    names[id(p)]: p.detach().clone() for _, p in stepped if id(p) in names
                }

    def _after_step(self, optimizer: Any, *_: Any) -> None:
        due = self._due
        if due is None or self._at_rest or not self._last or optimizer is not self.optimizers[-1]:
            return
        if due.steps is None:
            with self._timed(), torch.no_grad():
                due.steps = steps_of(
                    self.optimizers, self._gatherer.names, due.rows, due.before, self._squares,
                    len(self.looks) + 1, len(due.values),
                )  # fmt: skip

    # ------------------------------------------------------------------------------- a look

    def _longest(self) -> int | None:
        """The term with the longest gradient, of which the least is lost where it is a rest."""
        if not self.looks:
            return None
        whole = self.looks[-1].whole
        return max(range(len(whole)), key=lambda k: whole[k][k])

    def _look(self, iteration: int, due: Gathered) -> Look:
        count = len(due.values)
        known = due.steps.tables if due.steps else {}
        parts, shared = {}, zero_table(count)
        for part, names in self._parts.items():
            parts[part] = zero_table(count)
            for name in names:
                if rows := due.rows.get(name):
                    table = known[name] if name in known else table_of([rows], count)
                    parts[part] = added(parts[part], table)
                    shared = added(shared, table) if len(rows) > 1 else shared
        whole = added(*parts.values())
        sketches = self._sketches.setdefault(due.stage, Sketches())
        sketches.add(due.whole_rows(self._gatherer.sizes, self._gatherer.device), whole)
        norm = sqrt(max(0.0, sum(map(sum, whole))))
        steps = due.steps or Steps(whole, whole, [0.0] * count, norm**2, 0.0, {})
        return Look(
            iteration=iteration, stage=due.stage, values=due.values, present=due.present,
            shared=shared, whole=whole, features=due.features, parts=parts,
            sgd=steps.sgd, adam=steps.adam, effects=steps.effects, norm=norm,
            clipped=min(1.0, sqrt(steps.grad) / norm) if norm > 0 else 1.0,
            rate=max(float(g["lr"]) for one in self.optimizers for g in one.param_groups),
            tiny=steps.tiny,
        )  # fmt: skip

    def _rested(self, due: Gathered, sketches: Sketches) -> None:
        count = len(due.values)
        whole = table_of([rows for rows in due.rows.values() if rows], count)
        sketches.add(due.whole_rows(self._gatherer.sizes, self._gatherer.device), whole)

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
        means = {stage: one.means(count) for stage, one in self._sketches.items()}
        if self._at_rest is not None and self._at_rest[1].seen > 2:
            means[self._at_rest[0]] = self._at_rest[1].means(count, still=True)
        return Record(
            terms=names,
            optimizer=" and ".join(dict.fromkeys(_class_of(one) for one in self.optimizers)),
            adaptive=any(_adaptive(one) for one in self.optimizers),
            looks=looks,
            means=means,
            reached={
                part: [n for k, n in enumerate(names) if any(x.parts[part][k][k] for x in looks)]
                for part in self._parts
            },
            iterations=iterations,
            interval=self.plan.interval,
            seconds={"training": seconds, "looking": self.seconds},
            interrupted=interrupted,
        )


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
