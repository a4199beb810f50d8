"""A training in stages, one after the other, as the files in its work directory stand.

A framework's adapter says how a stage is trained, how proposals are made and how a detector is
evaluated; the order of it all, what is kept and what is checked are here::

    work_dir/initial.pth              the seed's first weights, of the whole detector
    work_dir/<stage>/initial.pth      what the stage starts from
    work_dir/<stage>/final.pth        what the stage ends in
    work_dir/<stage>/proposals.npz    fixed proposals for a later stage
    work_dir/unified.pth              the final detector, an ordinary checkpoint
    work_dir/record.json              see lossweave.staged.record
"""

from __future__ import annotations

import gc
import shlex
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from lossweave.errors import LossweaveError
from lossweave.host.draws import seed_from
from lossweave.staged.freezing import digest, modules_at, unchanged
from lossweave.staged.plan import Plan
from lossweave.staged.proposal_file import ProposalFile, fingerprint
from lossweave.staged.recall import average_recall
from lossweave.staged.record import (
    RECORD_FILE,
    ProposalPass,
    StageRecord,
    TrainingRecord,
    UnifiedRecord,
)
from lossweave.staged.stages import FRESH, INITIAL, PARTS, Stage
from lossweave.utils.distributed import rank, world_size
from lossweave.utils.files import replacing
from lossweave.utils.provenance import machine, versions

__all__ = ["StagedTraining", "State", "Targets"]

State = dict[str, torch.Tensor]
#: By name, a file of proposals and the RPN's settings for it.
Targets = dict[str, tuple[Path, dict[str, Any]]]


class StagedTraining(ABC):
    """Runs the stages of a schedule, one after the other, and records them.

    Args:
        plan: what is trained, proposed and evaluated.
        work_dir: where everything goes.
        seed: decides the first weights, which all stages and joint training share, and with
            the number of the stage the order of its data and its sampling.
    """

    #: The framework's name in the record.
    framework: str
    #: The weights' key in a checkpoint.
    weights_key = "state_dict"
    #: The modules of the parts whose names are others.
    modules: Mapping[str, str] = {}

    def __init__(self, plan: Plan, work_dir: str | Path, seed: int) -> None:
        self.plan = plan
        self.schedule = plan.schedule
        self.work_dir = Path(work_dir)
        self.seed = seed
        self.record: TrainingRecord | None = None

    # ------------------------------------------------------- what the framework's adapter does

    @abstractmethod
    def config_name(self) -> str:
        """The config's name, for the record."""

    @abstractmethod
    def dump_config(self) -> None:
        """Write the config into the work directory."""

    @abstractmethod
    def draw(self, seed: int, fresh: bool) -> tuple[State, torch.nn.Module]:
        """The whole detector with weights of a seed.

        Args:
            seed: of the draw.
            fresh: whether heads are drawn anew, whatever checkpoint the config starts from.
        """

    @abstractmethod
    def fit(
        self, stage: Stage, start: Path, proposals: Path | None, record: StageRecord
    ) -> tuple[State, dict[str, Any]]:
        """Train a stage, from its newest checkpoint or from ``start``.

        Args:
            stage: which.
            start: the weights that it starts from.
            proposals: file of fixed proposals.
            record: where what is measured goes, however the session ends.

        Returns:
            The weights, and what else its checkpoints should hold.
        """

    @abstractmethod
    def proposers(self, split: str) -> Any:
        """What makes proposals, beside weights and settings: model and pipelines, as JSON."""

    @abstractmethod
    def make_proposals(
        self, stage: Stage, split: str, targets: Targets, key: str
    ) -> dict[str, ProposalFile]:
        """Proposals by the network that a stage ended in, for every image of a split."""

    @abstractmethod
    def objects(self, split: str) -> dict[str, np.ndarray]:
        """The ground truth boxes of every image, (m, 4), without crowds and ignored ones."""

    @abstractmethod
    def test_settings(self) -> dict[str, Any]:
        """The RPN's settings in tests, by the names of the paper's in ``proposals``."""

    @abstractmethod
    def detect(
        self, stage: Stage | None, checkpoint: Path, proposals: Path | None, folder: Path
    ) -> dict[str, float]:
        """AP and AP50 of a network, each from 0 to 1.

        Args:
            stage: whose network; None means the whole detector.
            checkpoint: its weights.
            proposals: file of fixed proposals, for a network without an RPN.
            folder: for logs.
        """

    @abstractmethod
    def say(self, message: str) -> None:
        """Log a line."""

    # ------------------------------------------------------------------------- training

    def train(self, resume: bool = False) -> TrainingRecord:
        """Train all stages, from where the work directory stands; the record.

        Args:
            resume: whether a training that the work directory holds is gone on with.

        Raises:
            LossweaveError: the directory holds another training, a stage changed what it
                freezes, or a proposal file is stale or damaged.
        """
        if (self.work_dir / RECORD_FILE).is_file() and not resume:
            raise LossweaveError(
                f"{self.work_dir} holds a training already; go on with --resume, or choose "
                "another --work-dir"
            )
        _barrier()
        record = self.record = self._open_record()
        if record.finished:
            self.say(f"{self.work_dir} is finished already")
            return record
        self._initial()
        outline = " -> ".join(stage.name for stage in self.schedule.stages)
        for stage in self.schedule.stages:
            self.say(f"stage {stage.name!r} of {outline}")
            self._train(stage)
            if self.schedule.makes_proposals(stage.name):
                self._propose(stage)
            self._evaluate(stage)
        self._finish()
        return record

    def _open_record(self) -> TrainingRecord:
        options = self.plan.options()
        if (self.work_dir / RECORD_FILE).is_file():
            record = TrainingRecord.load(self.work_dir)
        else:
            record = TrainingRecord(
                kind=self.plan.kind,
                framework=self.framework,
                config=self.config_name(),
                seed=self.seed,
                options=options,
                command=shlex.join(["python", *sys.argv]).replace(f"{Path.cwd()}/", ""),
                machine=machine(),
                versions=versions(),
                date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            )
        for name in ("schedule", "proposals"):
            if record.options.get(name) != options[name]:
                raise LossweaveError(
                    f"{self.work_dir} holds a training with another {name}; choose another "
                    "--work-dir"
                )
        if record.seed != self.seed:
            raise LossweaveError(f"{self.work_dir} holds a training of seed {record.seed}")
        self.record = record
        self.work_dir.mkdir(parents=True, exist_ok=True)
        if rank() == 0:
            self.dump_config()
        self._save_record()
        return record

    def _save_record(self) -> None:
        if rank() == 0 and self.record is not None:
            self.record.save(self.work_dir)
        _barrier()

    def _stage_record(self, stage: Stage) -> StageRecord:
        assert self.record is not None
        found = self.record.stage(stage.name)
        found.parts = {"trained": list(stage.trained), "frozen": list(stage.frozen)}
        return found

    def folder(self, stage: Stage | str) -> Path:
        """A stage's folder."""
        return self.work_dir / (stage if isinstance(stage, str) else stage.name)

    def stage_seed(self, stage: Stage) -> int:
        """The seed of a stage's data order and sampling."""
        # Joint training and the first stage meet the data in the same order.
        return seed_from(self.seed, self.schedule.index(stage.name))

    # --------------------------------------------------------------------------- weights

    def module_path(self, path: str) -> str:
        """The module of the framework's detector that a part, or a path in it, means."""
        part, dot, rest = path.partition(".")
        return f"{self.modules.get(part, part)}{dot}{rest}"

    def _path(self, name: str) -> str:
        """The path in parts that the name of a weight means."""
        module, dot, rest = name.partition(".")
        parts = {m: part for part, m in self.modules.items()}
        return f"{parts.get(module, module)}{dot}{rest}"

    def of_parts(self, state: Mapping[str, torch.Tensor]) -> State:
        """The weights that belong to a part, on the CPU."""
        return {
            name: tensor.detach().cpu()
            for name, tensor in state.items()
            if self._path(name).split(".")[0] in PARTS
        }

    def _within(self, name: str, paths: tuple[str, ...]) -> bool:
        path = self._path(name)
        return any(path == p or path.startswith(f"{p}.") for p in paths)

    def _initial(self) -> Path:
        """The first weights, which do not depend on the schedule."""
        path = self.work_dir / "initial.pth"
        if _missing(path):
            state, model = self.draw(self.seed, fresh=False)
            paths = {p for s in self.schedule.stages for p in (*s.frozen, *s.init)}
            modules_at(model, sorted(map(self.module_path, paths)))  # all that a stage names
            if rank() == 0:
                self._save(path, state)
            _barrier()
        return path

    def _start_of(self, stage: Stage) -> Path:
        """The weights that a stage starts from, put together from where they come from."""
        path = self.folder(stage) / "initial.pth"
        if not _missing(path):
            return path
        states: dict[str, State] = {INITIAL: self.load(self._initial())}
        start: State = {}
        for name in states[INITIAL]:
            if self._path(name).split(".")[0] not in stage.network:
                continue
            source = stage.source(self._path(name)) or INITIAL
            if source not in states:
                if source == FRESH:
                    states[source] = self.draw(seed_from(self.stage_seed(stage), 1), fresh=True)[0]
                else:
                    states[source] = self.load(self.folder(source) / "final.pth")
            start[name] = states[source][name]
        if rank() == 0:
            self._save(path, start)
        _barrier()
        return path

    def load(self, path: Path) -> State:
        """The weights in a file of a staged training.

        Raises:
            LossweaveError: there is no such file.
        """
        return self._read(path)[self.weights_key]

    def _read(self, path: Path) -> dict[str, Any]:
        try:
            return torch.load(path, map_location="cpu", weights_only=False)
        except FileNotFoundError:
            raise LossweaveError(f"{path} is missing; its stage must be trained again") from None

    def _save(self, path: Path, state: State, meta: dict[str, Any] | None = None) -> None:
        with replacing(path) as temporary:
            torch.save({self.weights_key: state, "meta": meta or {}}, temporary)

    # ---------------------------------------------------------------------------- stages

    def _train(self, stage: Stage) -> None:
        record, final = self._stage_record(stage), self.folder(stage) / "final.pth"
        if final.is_file():
            return
        proposals = None
        if stage.proposals is not None:
            proposals = self.folder(stage.proposals) / "proposals.npz"
            ProposalFile(proposals, key=self._proposal_key(self.schedule[stage.proposals]))
        start = self._start_of(stage)
        try:
            state, meta = self.fit(stage, start, proposals, record)
        except BaseException:
            if rank() == 0 and self.record is not None:
                self.record.save(self.work_dir)  # the other processes may be elsewhere
            raise
        frozen = [name for name in state if self._within(name, stage.frozen)]
        before = self.load(start)
        unchanged(
            digest({name: before[name] for name in frozen}),
            digest({name: state[name] for name in frozen}),
            f"stage {stage.name!r}",
        )
        self._save_record()  # first: a stage with an end is not trained, so not measured, again
        if rank() == 0:
            self._save(final, state, meta)
        _barrier()
        gc.collect()

    # ------------------------------------------------------------------------- proposals

    def _proposal_key(self, stage: Stage, split: str = "train", settings: Any = None) -> str:
        """What makes a stage's proposals, as a checksum: weights, settings, model, pipelines."""
        made_by = {"settings": settings or self.plan.proposals, **self.proposers(split)}
        return fingerprint(self.load(self.folder(stage) / "final.pth"), made_by)

    def _propose(self, stage: Stage) -> None:
        path, record = self.folder(stage) / "proposals.npz", self._stage_record(stage)
        key = self._proposal_key(stage)
        if path.is_file():
            found = ProposalFile(path, key)
        else:
            targets: Targets = {"train": (path, self.plan.proposals)}
            found = self.make_proposals(stage, "train", targets, key)["train"]
        record.proposals = ProposalPass(
            seconds=found.seconds,
            images=len(found),
            per_image=found.per_image,
            file=str(path.relative_to(self.work_dir)),
            checksum=found.checksum,
        )
        self._save_record()

    # ------------------------------------------------------------------------ evaluation

    def _evaluate(self, stage: Stage) -> None:
        record = self._stage_record(stage)
        last = stage is self.schedule.stages[-1]
        if record.metrics or not (last or self.plan.evaluate_stages):
            return
        begin, metrics = time.perf_counter(), {}
        if "rpn_head" in stage.network:
            metrics.update(self._recall(stage))
        rpn = self.schedule.last("rpn_head", until=stage.name)
        if "roi_head" in stage.network and rpn is not None:
            metrics.update(self._detection(rpn, stage))
            if rpn is not stage:
                metrics.update(self._recall(rpn))
        record.metrics = metrics
        record.evaluation_seconds += time.perf_counter() - begin
        self.say(f"after {stage.name}: {_line(metrics)}")
        self._save_record()

    def _recall(self, stage: Stage) -> dict[str, float]:
        """Average recall of the RPN that a stage ended in."""
        if not self.plan.recall:
            return {}
        assert self.record is not None
        known = {k: v for k, v in self.record.stage(stage.name).metrics.items() if "AR@" in k}
        if known:
            return known
        found = self._evaluation_pass(stage)["recall"]
        boxes = {image: found[image][0] for image in found}
        return average_recall(self.objects(self.plan.split), boxes, self.plan.recall)

    def _evaluation_pass(self, stage: Stage) -> dict[str, ProposalFile]:
        """Proposals for the evaluated split: as many as recall asks for, and as tests use."""
        split, folder, test = self.plan.split, self.folder(stage), self.test_settings()
        many = max((*self.plan.recall, 1))
        recall = {**test, "nms_pre": max(many, test.get("nms_pre", 0)), "max_per_img": many}
        targets: Targets = {
            "recall": (folder / f"{split}_recall.npz", recall),
            "detection": (folder / f"{split}_proposals.npz", test),
        }
        key = self._proposal_key(stage, split=split, settings=[recall, test])
        if all(path.is_file() for path, _ in targets.values()):
            return {name: ProposalFile(path, key) for name, (path, _) in targets.items()}
        return self.make_proposals(stage, split, targets, key)

    def _detection(self, rpn: Stage, roi: Stage) -> dict[str, float]:
        """AP of the system that two stages ended in: one detector, or two networks."""
        folder = self.folder(roi)
        if self.schedule.share(rpn, roi):
            return self.detect(None, self._unify(rpn, roi), None, folder)
        self._evaluation_pass(rpn)
        proposals = self.folder(rpn) / f"{self.plan.split}_proposals.npz"
        return self.detect(roi, folder / "final.pth", proposals, folder)

    def _unify(self, rpn: Stage, roi: Stage) -> Path:
        """One detector of two networks that have the same weights below their heads."""
        whole = self.schedule.stages[-1] in (rpn, roi)
        path = self.work_dir / "unified.pth" if whole else self.folder(roi) / "detector.pth"
        if not _missing(path):
            return path
        first, second = (self.load(self.folder(s) / "final.pth") for s in (rpn, roi))
        below = [name for name in first if not self._within(name, ("rpn_head", "roi_head"))]
        unchanged(
            digest({name: first[name] for name in below}),
            digest({name: second[name] for name in below}),
            f"{rpn.name!r} and {roi.name!r} share what is below their heads, but",
        )
        if rank() == 0:
            meta = self._read(self.folder(roi) / "final.pth")["meta"]
            heads = {n: first[n] for n in first if self._within(n, ("rpn_head",))}
            state = {**second, **heads}
            order = self.load(self.work_dir / "initial.pth")
            self._save(path, {name: state[name] for name in order}, meta)
        _barrier()
        return path

    def _finish(self) -> None:
        assert self.record is not None
        rpn, roi = self.schedule.last("rpn_head"), self.schedule.last("roi_head")
        if rpn is not None and roi is not None and self.schedule.share(rpn, roi):
            path = self._unify(rpn, roi)
            metrics = dict(self.record.stage(self.schedule.stages[-1].name).metrics)
            if "roi_head" not in self.schedule.stages[-1].network:
                metrics.update(self._detection(rpn, roi))
            self.record.unified = UnifiedRecord(str(path.relative_to(self.work_dir)), metrics)
            self.say(f"the detector is {path}: {_line(metrics)}")
        self.record.finished = True
        self._save_record()


def _barrier() -> None:
    if world_size() > 1:
        dist.barrier()


def _missing(path: Path) -> bool:
    """Whether there is no such file yet; every process says the same."""
    found = path.is_file()
    _barrier()  # none of them writes it before all have looked
    return not found


def _line(metrics: Mapping[str, float]) -> str:
    return ", ".join(f"{k} {v:.3f}" for k, v in metrics.items()) or "not evaluated"
