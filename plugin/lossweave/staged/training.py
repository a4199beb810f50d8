"""A training in stages, one after the other, as the files in its work directory stand.

A framework's :class:`~lossweave.staged.adapter.Adapter` says how a stage is trained, how
proposals are made and how a detector is evaluated; the order of it all, what is kept and what is
checked are here and in the files beside::

    work_dir/initial.pth, <stage>/initial.pth, <stage>/final.pth, unified.pth
                                      see lossweave.staged.weights
    work_dir/<stage>/proposals.npz    fixed proposals for a later stage; lossweave.staged.passes
    work_dir/record.json              see lossweave.staged.record
"""

from __future__ import annotations

import gc
import shlex
import sys
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from lossweave.errors import LossweaveError, NonFiniteLossError, wrong_input
from lossweave.host.interrupt import Interrupt
from lossweave.staged.adapter import Adapter
from lossweave.staged.evaluation import StageEvaluation
from lossweave.staged.passes import ProposalPasses
from lossweave.staged.record import (
    RECORD_FILE,
    ProposalPass,
    StageRecord,
    TrainingRecord,
    UnifiedRecord,
)
from lossweave.staged.stages import Stage
from lossweave.staged.weights import StageWeights
from lossweave.utils.described import described, differences
from lossweave.utils.distributed import barrier, rank
from lossweave.utils.provenance import machine, versions

__all__ = ["StagedTraining"]


class StagedTraining:
    """Runs the stages of a schedule, one after the other, and records them.

    Args:
        adapter: the framework's, with plan, work directory and seed.
    """

    def __init__(self, adapter: Adapter) -> None:
        self._adapter = adapter
        self._work_dir = adapter.work_dir
        self._schedule = adapter.plan.schedule
        self._weights = StageWeights(adapter)
        self._passes = ProposalPasses(self._weights)

    def train(self, resume: bool = False) -> TrainingRecord:
        """Train all stages, from where the work directory stands; the record.

        A signal that asks to stop (SIGINT, SIGTERM, SIGHUP) is answered by whoever trains a
        stage; between stages, in passes and in evaluations what is done is kept, and the
        training stops at once. Several processes stop after the stage.

        Args:
            resume: whether a training that the work directory holds is gone on with.

        Raises:
            LossweaveError: the directory holds another training, a stage changed what it
                freezes, or a proposal file is stale or damaged.
            KeyboardInterrupt: somebody asked to stop.
        """
        interrupt = Interrupt(self._adapter.log)
        try:
            with interrupt.taken(), interrupt.at_once():
                return self._run(resume, interrupt)
        except KeyboardInterrupt:
            self._adapter.log("interrupted; what is done is kept, go on with --resume")
            raise

    def _run(self, resume: bool, interrupt: Interrupt) -> TrainingRecord:
        if (self._work_dir / RECORD_FILE).is_file() and not resume:
            raise LossweaveError(
                f"{self._work_dir} holds a training already; go on with --resume, or choose "
                "another --work-dir"
            )
        barrier()
        record = self._record()
        if record.finished:
            self._adapter.log(f"{self._work_dir} is finished already")
            return record
        with wrong_input():
            self._adapter.check()
        self._work_dir.mkdir(parents=True, exist_ok=True)
        if rank() == 0:
            self._adapter.dump_config()
        self._save(record)
        evaluation = StageEvaluation(self._weights, self._passes, record)
        with wrong_input():
            self._weights.initial()
        outline = " -> ".join(stage.name for stage in self._schedule.stages)
        for stage in self._schedule.stages:
            self._adapter.log(f"stage {stage.name!r} of {outline}")
            if not self._weights.final(stage).is_file():
                self._train(stage, record)
            if self._schedule.makes_proposals(stage.name):
                self._propose(stage, record)
            if evaluation.wants(stage):
                evaluation.run(stage)
                self._adapter.log(f"after {stage.name}: {_line(record.stage(stage.name).metrics)}")
                self._save(record)
            if interrupt.agreed(-1):  # the first question of all, so it is always asked
                raise KeyboardInterrupt
        self._finish(record, evaluation)
        return record

    def _record(self) -> TrainingRecord:
        """The record of the work directory, or a new one."""
        adapter = self._adapter
        options = described({**adapter.plan.options(), "settings": adapter.settings()})
        if (self._work_dir / RECORD_FILE).is_file():
            record = TrainingRecord.load(self._work_dir)
        else:
            record = TrainingRecord(
                kind=adapter.plan.kind,
                framework=adapter.framework,
                config=adapter.config_name(),
                seed=adapter.seed,
                options=options,
                command=shlex.join(["python", *sys.argv]).replace(f"{Path.cwd()}/", ""),
                machine=machine(),
                versions=versions(),
                date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            )
        self._refuse_another(record, options)
        return record

    def _refuse_another(self, record: TrainingRecord, options: dict[str, Any]) -> None:
        """Refuse to go on with a training of another seed or config."""
        if record.seed != self._adapter.seed:
            raise LossweaveError(f"{self._work_dir} holds a training of seed {record.seed}")
        for name in ("schedule", "proposals", "settings"):
            what = "config" if name == "settings" else name
            found = list(differences(record.options.get(name), options[name]))
            if found:
                raise LossweaveError(
                    f"{self._work_dir} holds a training with another {what}: "
                    f"{', '.join(found[:3])}{' and more' * (len(found) > 3)}; choose another "
                    "--work-dir"
                )

    def _save(self, record: TrainingRecord) -> None:
        if rank() == 0:
            record.save(self._work_dir)
        barrier()

    def _train(self, stage: Stage, record: TrainingRecord) -> None:
        found = self._record_of(stage, record)
        proposals = None
        if stage.proposals is not None:
            proposals = self._passes.checked(self._schedule[stage.proposals]).path
        start = self._weights.start_of(stage)
        try:
            whole, meta = self._adapter.fit(
                stage, start, proposals, self._weights.seed(stage), found
            )
        except BaseException as error:
            if rank() == 0:
                record.save(self._work_dir)  # the other processes may be elsewhere
            if isinstance(error, NonFiniteLossError):
                raise NonFiniteLossError(f"stage {stage.name!r}: {error}") from error
            raise
        state = self._weights.names.of_parts(whole)
        self._weights.check(stage, state)
        self._save(record)  # first: a stage with an end is not trained, so not measured, again
        self._weights.end(stage, state, meta)
        gc.collect()

    def _record_of(self, stage: Stage, record: TrainingRecord) -> StageRecord:
        found = record.stage(stage.name)
        found.parts = {"trained": list(stage.trained), "frozen": list(stage.frozen)}
        return found

    def _propose(self, stage: Stage, record: TrainingRecord) -> None:
        found = self._passes.for_training(stage)
        self._record_of(stage, record).proposals = ProposalPass(
            seconds=found.seconds,
            images=len(found),
            per_image=found.per_image,
            file=self._weights.relative(found.path),
            checksum=found.checksum,
        )
        self._save(record)

    def _finish(self, record: TrainingRecord, evaluation: StageEvaluation) -> None:
        schedule = self._schedule
        rpn, roi = schedule.last("rpn_head"), schedule.last("roi_head")
        if rpn is not None and roi is not None and schedule.share(rpn, roi):
            path = self._weights.unify(rpn, roi)
            metrics = dict(record.stage(schedule.stages[-1].name).metrics)
            if "roi_head" not in schedule.stages[-1].network:
                metrics.update(evaluation.detection(rpn, roi))
            record.unified = UnifiedRecord(self._weights.relative(path), metrics)
            self._adapter.log(f"the detector is {path}: {_line(metrics)}")
        record.finished = True
        self._save(record)


def _line(metrics: Mapping[str, float]) -> str:
    return ", ".join(f"{k} {v:.3f}" for k, v in metrics.items()) or "not evaluated"
