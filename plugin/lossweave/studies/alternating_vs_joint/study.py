"""Faster R-CNN in four steps against one joint training, at two budgets, over several seeds.

Every training is a ``tools/train.py`` of one config, whose ``schedule`` serves both ways; within
a seed all of them share data, initial weights and the seed itself. What is compared is read from
the trainings' own ``record.json``, so the framework that made it does not matter here.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from lossweave.errors import LossweaveError
from lossweave.host.paths import resolve_config
from lossweave.staged.freezing import digest
from lossweave.staged.record import RECORD_FILE, TrainingRecord
from lossweave.staged.stages import Budget, Stage
from lossweave.studies.alternating_vs_joint.configs import StagedConfig, read_staged
from lossweave.studies.alternating_vs_joint.findings import (
    ALTERNATING,
    EQUAL,
    JOINT,
    Run,
    Study,
    variant,
)
from lossweave.studies.alternating_vs_joint.lengths import (
    budget_options,
    length_budget,
    length_options,
)
from lossweave.studies.alternating_vs_joint.results import filled, report_study, wanted
from lossweave.studies.ledger.book import Book
from lossweave.studies.ledger.identity import code_of_today
from lossweave.studies.ledger.result import Result
from lossweave.studies.runs.processes import call, run_all
from lossweave.studies.runs.training import refuse_other_settings

__all__ = ["joint_options", "run_study"]


@dataclass(frozen=True)
class _Training:
    """One training of the study.

    Args:
        arm: the way.
        seed: its seed.
        options: of length and way.
        budget: of a length that is not the config's, as a ledger has it.
        folder: its own.
    """

    arm: str
    seed: int
    options: tuple[str, ...]
    budget: Mapping[str, int]
    folder: Path


def run_study(study: Study) -> list[Run]:
    """Train what the ledger lacks, and write record, report and plots.

    Returns:
        One run per length, seed and way. With ``ledger.plan`` none: what is lacking is printed,
        and nothing is trained.

    Raises:
        LossweaveError: wrong input, before anything is trained, or a training that failed.
    """
    if not study.seeds or study.jobs < 1:
        raise LossweaveError("the study needs a seed and at least one job at a time")
    if not study.lengths or len(set(study.lengths)) < len(study.lengths):
        raise LossweaveError("--lengths: needs a length, and each one once")
    read = read_staged(study.config, study.options)  # here, not in threads
    asked = _asked(study, read)
    book = Book(study.ledger, study.work_dir)
    if study.ledger.plan:
        every = [wanted(study, read, one.arm, one.seed, one.budget) for one in asked]
        names = [f"{result.label}{_told(one)}" for result, one in zip(every, asked, strict=True)]
        print(book.plan_text(every, names))
        return []
    work = [partial(_obtain, study, book, one, read) for one in asked]
    folders = [one.folder for one in asked]
    results = run_all(work, study.jobs, "trainings", partial(_standing, folders, study.jobs))
    return report_study(study, results)


# ------------------------------------------------------------------------------ planning


def joint_options(images: int, joint: Budget, default_batch: int) -> list[str]:
    """``--cfg-options`` of a joint training with as many image passes as another.

    Iterations and learning rate drops keep their proportion; the warm-up keeps its length.

    Args:
        images: image passes to reach.
        joint: the joint budget of the config.
        default_batch: images per iteration where the budget names none.

    Example:
        >>> joint_options(320_000, Budget(70_000, 2, drops=(50_000,)), 8)
        ['schedule.joint.iterations=160000', 'schedule.joint.drops=[114286]']
    """
    iterations = max(1, round(images / (joint.batch_size or default_batch)))
    return budget_options("joint", joint, iterations, joint.warmup or 0)


def _asked(study: Study, read: StagedConfig) -> list[_Training]:
    """Every training, the shortest first, so that whatever is finished is whole lengths."""
    found = []
    for length in sorted(study.lengths):
        options = length_options(read, length)
        stretched = read_staged(study.config, (*study.options, *options)) if options else read
        plans = _plans(study, stretched)
        mark = "" if length == 1 else f"_x{length:g}"
        found += [
            _Training(
                arm=arm,
                seed=seed,
                options=(*options, *plans[arm]),
                budget=length_budget(read, length),
                folder=Path(study.work_dir) / f"{arm.replace(' ', '_')}{mark}_seed{seed}",
            )
            for seed in study.seeds
            for arm in plans
        ]
    return found


def _told(one: _Training) -> str:
    """Of a length that is not the config's, its joint iterations."""
    return f", {one.budget['joint']} joint iterations" if one.budget else ""


def _plans(study: Study, read: StagedConfig) -> dict[str, tuple[str, ...]]:
    """The ``--cfg-options`` of every arm."""
    alternating, joint, batch = read.schedule, read.joint.stages[0], read.batch
    images = sum(_images(stage, batch) for stage in alternating.stages)
    plans: dict[str, tuple[str, ...]] = {ALTERNATING: (), JOINT: ("schedule.type=joint",)}
    if study.equal:
        more = joint_options(images, joint.budget, batch)
        plans[EQUAL] = ("schedule.type=joint", *more)
    for step4 in study.step4:
        plans[variant(step4)] = (f"schedule.step4={step4}",)
    return plans


def _images(stage: Stage, batch: int) -> int:
    return stage.budget.iterations * (stage.budget.batch_size or batch)


def _obtain(study: Study, book: Book, one: _Training, read: StagedConfig) -> Result:
    def train(asked: Result) -> Result:
        begun = _finished(one.folder)
        run = _train(study, one, read)
        return filled(asked, run, study.jobs, None if begun else code_of_today())

    return book.obtain(wanted(study, read, one.arm, one.seed, one.budget), train)


def _train(study: Study, one: _Training, read: StagedConfig) -> Run:
    folder = one.folder
    folder.mkdir(parents=True, exist_ok=True)
    config = resolve_config(study.config)
    # The arm has the last word.
    chosen = [f"{read.seed}={one.seed}", *study.options, *one.options]
    checksum = hashlib.sha256(read.told.encode()).hexdigest()[:12]
    refuse_other_settings(folder, dict(options=chosen, config=checksum))
    if not _finished(folder):
        words = [
            *("tools/train.py", config, "--work-dir", str(folder)),
            *("--resume", "--cfg-options", *chosen, *read.loading),
        ]
        call(words, folder / "log.txt", study.jobs)
    if not _finished(folder):
        raise LossweaveError(f"{folder} holds no finished record; see {folder / 'log.txt'}")
    return Run(one.arm, one.seed, TrainingRecord.load(folder), _start(folder))


def _start(folder: Path) -> str | None:
    """A checksum of the weights that every stage of a training goes back to."""
    kept = folder / "initial.pth"
    if not kept.is_file():
        return None
    content = torch.load(kept, map_location="cpu", weights_only=False)
    state = content["model" if "model" in content else "state_dict"]
    return hashlib.sha256("".join(digest(state).values()).encode()).hexdigest()[:16]


def _finished(folder: Path) -> bool:
    return (folder / RECORD_FILE).is_file() and TrainingRecord.load(folder).finished


def _standing(folders: Sequence[Path], jobs: int) -> str:
    """What runs at the moment, for the progress bar."""
    found = []
    for folder in folders:
        if (folder / RECORD_FILE).is_file():
            record = TrainingRecord.load(folder)
            if not record.finished and record.stages:
                found.append(f"{folder.name} {record.stages[-1].name}")
    return ", ".join(found[:jobs])
