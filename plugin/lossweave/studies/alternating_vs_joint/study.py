"""Faster R-CNN in four steps against one joint training, at two budgets, over several seeds.

Every training is a ``tools/train.py`` of one config, whose ``schedule`` serves both ways; within
a seed all of them share data, initial weights and the seed itself. What is compared is read from
the trainings' own ``record.json``, so the framework that made it does not matter here.
"""

import hashlib
from collections.abc import Sequence
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
)
from lossweave.studies.alternating_vs_joint.results import filled, report_study, wanted
from lossweave.studies.ledger.book import Book
from lossweave.studies.ledger.identity import code_of_today
from lossweave.studies.ledger.result import Result
from lossweave.studies.runs.processes import call, run_all
from lossweave.studies.runs.training import refuse_other_settings

__all__ = ["joint_options", "run_study"]


def run_study(study: Study) -> list[Run]:
    """Train what the ledger lacks, and write record, report and plots.

    Returns:
        One run per way and seed. With ``ledger.plan`` none: what is lacking is printed, and
        nothing is trained.

    Raises:
        LossweaveError: wrong input, before anything is trained, or a training that failed.
    """
    if not study.seeds or study.jobs < 1:
        raise LossweaveError("the study needs a seed and at least one job at a time")
    read = read_staged(study.config, study.options)  # here, not in threads
    plans = _plans(study, read)
    checksum = hashlib.sha256(read.told.encode()).hexdigest()[:12]
    asked = [(arm, seed) for seed in study.seeds for arm in plans]
    book = Book(study.ledger, study.work_dir)
    if study.ledger.plan:
        print(book.plan_text([wanted(study, read, arm, seed) for arm, seed in asked]))
        return []
    work = [
        partial(_obtain, study, book, arm, seed, plans[arm], read, checksum) for arm, seed in asked
    ]
    results = run_all(work, study.jobs, "trainings", partial(_standing, study, list(plans)))
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
    batch = joint.batch_size or default_batch
    iterations = max(1, round(images / batch))
    drops = [max(1, round(drop * iterations / joint.iterations)) for drop in joint.drops]
    shown = "[" + ",".join(str(drop) for drop in dict.fromkeys(drops)) + "]"
    return [
        f"schedule.joint.iterations={iterations}",
        *([f"schedule.joint.drops={shown}"] if drops else []),
    ]


def _plans(study: Study, read: StagedConfig) -> dict[str, tuple[str, ...]]:
    """The ``--cfg-options`` of every arm."""
    alternating, joint, batch = read.schedule, read.joint.stages[0], read.batch
    images = sum(_images(stage, batch) for stage in alternating.stages)
    plans: dict[str, tuple[str, ...]] = {ALTERNATING: (), JOINT: ("schedule.type=joint",)}
    if study.equal:
        more = joint_options(images, joint.budget, batch)
        plans[EQUAL] = ("schedule.type=joint", *more)
    return plans


def _images(stage: Stage, batch: int) -> int:
    return stage.budget.iterations * (stage.budget.batch_size or batch)


def _obtain(
    study: Study,
    book: Book,
    arm: str,
    seed: int,
    options: Sequence[str],
    read: StagedConfig,
    checksum: str,
) -> Result:
    def train(asked: Result) -> Result:
        begun = _finished(_folder(study, arm, seed))
        run = _train(study, arm, seed, options, read, checksum)
        return filled(asked, run, study.jobs, None if begun else code_of_today())

    return book.obtain(wanted(study, read, arm, seed), train)


def _train(
    study: Study,
    arm: str,
    seed: int,
    options: Sequence[str],
    read: StagedConfig,
    checksum: str,
) -> Run:
    folder = _folder(study, arm, seed)
    folder.mkdir(parents=True, exist_ok=True)
    config = resolve_config(study.config)
    chosen = [f"{read.seed}={seed}", *study.options, *options]  # the arm has the last word
    refuse_other_settings(folder, dict(options=chosen, config=checksum))
    if not _finished(folder):
        words = [
            *("tools/train.py", config, "--work-dir", str(folder)),
            *("--resume", "--cfg-options", *chosen, *read.loading),
        ]
        call(words, folder / "log.txt", study.jobs)
    if not _finished(folder):
        raise LossweaveError(f"{folder} holds no finished record; see {folder / 'log.txt'}")
    return Run(arm, seed, TrainingRecord.load(folder), _start(folder))


def _start(folder: Path) -> str | None:
    """A checksum of the weights that every stage of a training goes back to."""
    kept = folder / "initial.pth"
    if not kept.is_file():
        return None
    content = torch.load(kept, map_location="cpu", weights_only=False)
    state = content["model" if "model" in content else "state_dict"]
    return hashlib.sha256("".join(digest(state).values()).encode()).hexdigest()[:16]


def _folder(study: Study, arm: str, seed: int) -> Path:
    return Path(study.work_dir) / f"{arm}_seed{seed}"


def _finished(folder: Path) -> bool:
    return (folder / RECORD_FILE).is_file() and TrainingRecord.load(folder).finished


def _standing(study: Study, arms: Sequence[str]) -> str:
    """What runs at the moment, for the progress bar."""
    found = []
    for seed in study.seeds:
        for arm in arms:
            folder = _folder(study, arm, seed)
            if (folder / RECORD_FILE).is_file():
                record = TrainingRecord.load(folder)
                if not record.finished and record.stages:
                    found.append(f"{folder.name} {record.stages[-1].name}")
    return ", ".join(found[: study.jobs])
