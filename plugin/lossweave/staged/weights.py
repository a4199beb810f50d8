"""The weights of a training in stages: where each stage's come from, and the files they are in.

::

    work_dir/initial.pth              the seed's first weights, of the whole detector
    work_dir/<stage>/initial.pth      what the stage starts from
    work_dir/<stage>/final.pth        what the stage ends in
    work_dir/unified.pth              the final detector, an ordinary checkpoint
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from lossweave.errors import LossweaveError, NonFiniteLossError, one_line
from lossweave.host.draws import seed_from
from lossweave.staged.adapter import Adapter, State
from lossweave.staged.freezing import digest, modules_at, unchanged
from lossweave.staged.stages import FRESH, INITIAL, PARTS, Stage
from lossweave.utils.described import described
from lossweave.utils.distributed import barrier, rank
from lossweave.utils.files import replacing

__all__ = ["PartNames", "StageWeights"]


class PartNames:
    """Between the parts that a schedule speaks of and the modules of a framework's detector.

    Args:
        modules: the modules of the parts whose names are others.

    Example:
        >>> names = PartNames({"roi_head": "roi_heads"})
        >>> names.module("roi_head.box_head"), names.path("roi_heads.box_head.fc1.weight")
        ('roi_heads.box_head', 'roi_head.box_head.fc1.weight')
        >>> names.within("roi_heads.box_head.fc1.weight", ("roi_head",))
        True
    """

    def __init__(self, modules: Mapping[str, str]) -> None:
        self._modules = dict(modules)
        self._parts = {module: part for part, module in modules.items()}

    def module(self, path: str) -> str:
        """The module that a part, or a path in it, means."""
        return _renamed(path, self._modules)

    def path(self, name: str) -> str:
        """The path in parts that the name of a weight means."""
        return _renamed(name, self._parts)

    def part(self, name: str) -> str:
        """The part that a weight belongs to, or a module that is none."""
        return self.path(name).split(".")[0]

    def within(self, name: str, paths: tuple[str, ...]) -> bool:
        """Whether a weight lies in one of the parts, or paths in parts."""
        path = self.path(name)
        return any(path == p or path.startswith(f"{p}.") for p in paths)

    def of_parts(self, state: Mapping[str, torch.Tensor]) -> State:
        """The weights that belong to a part, on the CPU."""
        return {n: tensor.detach().cpu() for n, tensor in state.items() if self.part(n) in PARTS}


def _renamed(path: str, names: Mapping[str, str]) -> str:
    first, dot, rest = path.partition(".")
    return f"{names.get(first, first)}{dot}{rest}"


class StageWeights:
    """The files of weights in a work directory; what is missing is made.

    Args:
        adapter: whose detector, schedule, seed and work directory.
    """

    def __init__(self, adapter: Adapter) -> None:
        self.adapter = adapter
        self.names = PartNames(adapter.modules)
        self.schedule = adapter.plan.schedule

    # ---------------------------------------------------------------------------- files

    def folder(self, stage: Stage | str) -> Path:
        """A stage's folder."""
        return self.adapter.work_dir / (stage if isinstance(stage, str) else stage.name)

    def final(self, stage: Stage | str) -> Path:
        """The file that a stage ends in."""
        return self.folder(stage) / "final.pth"

    def relative(self, path: Path) -> str:
        """A path as the record has it."""
        return str(path.relative_to(self.adapter.work_dir))

    def load(self, path: Path) -> State:
        """The weights in a file.

        Raises:
            LossweaveError: there is no such file.
        """
        return self._read(path)[self.adapter.weights_key]

    def _read(self, path: Path) -> dict[str, Any]:
        try:
            found = torch.load(path, map_location="cpu", weights_only=True)
            state = found[self.adapter.weights_key]
            if not all(isinstance(tensor, torch.Tensor) for tensor in state.values()):
                raise TypeError("something else than tensors among the weights")
        except FileNotFoundError:
            raise LossweaveError(f"{path} is missing; its stage must be trained again") from None
        except Exception as error:  # whatever a damaged or made file leads to
            raise LossweaveError(
                f"{path} holds no weights of a staged training, or not all ({one_line(error)}); "
                "delete it, and go on with --resume to make it anew"
            ) from error
        return found

    def _save(self, path: Path, state: State, meta: dict[str, Any] | None = None) -> None:
        """Write a checkpoint of the framework's kind; all processes have it then."""
        if rank() == 0:
            # What is read again without trust: tensors and plain values.
            content = {self.adapter.weights_key: state, "meta": _plain(meta or {})}
            with replacing(path) as temporary:
                torch.save(content, temporary)
        barrier()

    # --------------------------------------------------------------------------- stages

    def seed(self, stage: Stage) -> int:
        """The seed of a stage's data order and sampling."""
        # Joint training and the first stage meet the data in the same order.
        return seed_from(self.adapter.seed, self.schedule.index(stage.name))

    def initial(self) -> Path:
        """The first weights, which do not depend on the schedule."""
        path = self.adapter.work_dir / "initial.pth"
        if _missing(path):
            state, model = self.adapter.init_weights(self.adapter.seed, fresh=False)
            paths = {p for s in self.schedule.stages for p in (*s.frozen, *s.init)}
            modules_at(model, sorted(map(self.names.module, paths)))  # all that a stage names
            self._save(path, self.names.of_parts(state))
        return path

    def start_of(self, stage: Stage) -> Path:
        """The weights that a stage starts from, put together from where they come from."""
        path = self.folder(stage) / "initial.pth"
        if not _missing(path):
            return path
        states: dict[str, State] = {INITIAL: self.load(self.initial())}
        start: State = {}
        for name in states[INITIAL]:
            if self.names.part(name) not in stage.network:
                continue
            source = stage.source(self.names.path(name)) or INITIAL
            if source not in states:
                states[source] = self._source(stage, source)
            start[name] = states[source][name]
        self._save(path, start)
        return path

    def _source(self, stage: Stage, source: str) -> State:
        if source != FRESH:
            return self.load(self.final(source))
        state, _ = self.adapter.init_weights(seed_from(self.seed(stage), 1), fresh=True)
        return self.names.of_parts(state)

    def check(self, stage: Stage, state: State) -> None:
        """Check what a stage ends in: finite, and what it freezes is as it began.

        Raises:
            NonFiniteLossError: a weight is not finite.
            LossweaveError: naming a frozen tensor that has changed.
        """
        for name, tensor in state.items():
            if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
                raise NonFiniteLossError(
                    f"stage {stage.name!r} ended in weights that are not finite, e.g. {name!r}: "
                    "its training diverged; lower its learning rate, or clip gradients"
                )
        frozen = [name for name in state if self.names.within(name, stage.frozen)]
        before = self.load(self.start_of(stage))
        unchanged(
            digest({name: before[name] for name in frozen}),
            digest({name: state[name] for name in frozen}),
            f"stage {stage.name!r}",
        )

    def end(self, stage: Stage, state: State, meta: dict[str, Any]) -> None:
        """Write what a stage ends in: it counts as trained from then on."""
        self._save(self.final(stage), state, meta)

    # ------------------------------------------------------------------ the whole detector

    def unify(self, rpn: Stage, roi: Stage) -> Path:
        """One detector of two networks that have the same weights below their heads.

        Raises:
            LossweaveError: they have not.
        """
        whole = self.schedule.stages[-1] in (rpn, roi)
        path = self.folder(roi) / "detector.pth"
        if whole:
            path = self.adapter.work_dir / "unified.pth"
        if not _missing(path):
            return path
        first, second = (self.load(self.final(s)) for s in (rpn, roi))
        below = [n for n in first if not self.names.within(n, ("rpn_head", "roi_head"))]
        unchanged(
            digest({name: first[name] for name in below}),
            digest({name: second[name] for name in below}),
            f"{rpn.name!r} and {roi.name!r} share what is below their heads, but",
        )
        heads = {n: first[n] for n in first if self.names.within(n, ("rpn_head",))}
        state = {**second, **heads}
        order = self.load(self.initial())
        meta = self._read(self.final(roi))["meta"]
        self._save(path, {name: state[name] for name in order}, meta)
        return path


def _plain(value: Any) -> Any:
    """Values that are loaded as weights are; tuples stay tuples."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        items = [_plain(item) for item in value]
        return tuple(items) if isinstance(value, tuple) else items
    return value if isinstance(value, torch.Tensor) else described(value)


def _missing(path: Path) -> bool:
    """Whether there is no such file yet; every process says the same."""
    found = path.is_file()
    barrier()  # none of them writes it before all have looked
    return not found
