"""Faster R-CNN in four steps against one joint training, at two budgets, over several seeds.

Every training is a ``tools/train.py`` of one config, whose ``schedule`` serves both ways; within
a seed all of them share data, initial weights and the seed itself. What is compared is read from
the trainings' own ``record.json``, so the framework that made it does not matter here.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from lossweave.errors import LossweaveError
from lossweave.host.paths import resolve_config
from lossweave.staged.freezing import digest
from lossweave.staged.record import RECORD_FILE, StageRecord, TrainingRecord
from lossweave.staged.stages import Budget, Stage
from lossweave.studies.alternating_vs_joint.configs import StagedConfig, read_staged
from lossweave.studies.report.paired import Spread, differences, spread
from lossweave.studies.runs.training import (
    call,
    refuse_other_settings,
    run_all,
    write_json,
)
from lossweave.utils.provenance import provenance

__all__ = [
    "ALTERNATING",
    "EQUAL",
    "JOINT",
    "PAPER_PASSES",
    "RECORD_RATIOS",
    "UNDERTRAINED",
    "Findings",
    "Run",
    "Study",
    "find",
    "joint_options",
    "run_study",
]

ALTERNATING, JOINT, EQUAL = "alternating", "joint", "joint-equal"
#: Image passes of py-faster-rcnn's schedules, alternating / joint: 320k / 140k.
PAPER_PASSES = 320 / 140
#: Training time, alternating / joint, the smallest and the largest on record: R50-C4 and
#: X101-64x4d-FPN in Detectron's model zoo, two unshared steps against one training.
RECORD_RATIOS = (0.97, 1.60)
#: AP50 below which a joint training says little about what the schedule can do.
UNDERTRAINED = 0.6
_RECALLS = ("AR@100", "AR@300", "AR@1000")


@dataclass(frozen=True)
class Study:
    """What to train.

    Args:
        config: a config with a ``schedule`` of two-stage training and a joint budget.
        seeds: one training per seed and way; one seed is no evidence.
        work_dir: where everything is written; finished trainings are kept.
        jobs: trainings at a time, each with an equal share of the cores.
        options: further ``--cfg-options``, the same for all.
        equal: whether joint training at equal compute is run as well.
        command: the command that asked for it, for the report.
    """

    config: str
    seeds: tuple[int, ...] = (0, 1, 2)
    work_dir: str = "work_dirs/alternating_vs_joint"
    jobs: int = 1
    options: tuple[str, ...] = ()
    equal: bool = True
    command: str = "python tools/alternating_vs_joint.py"


@dataclass(frozen=True)
class Run:
    """One finished training.

    Args:
        arm: 'alternating', 'joint' or 'joint-equal'.
        seed: its seed.
        record: what it measured.
        start: a checksum of the initial weights; None where they are not kept.
    """

    arm: str
    seed: int
    record: TrainingRecord
    start: str | None = None

    @property
    def final(self) -> dict[str, float]:
        """The metrics of what the training ended in."""
        if self.record.unified is not None:
            return self.record.unified.metrics
        return next((s.metrics for s in reversed(self.record.stages) if "AP" in s.metrics), {})


@dataclass(frozen=True)
class Findings:
    """The numbers of the report.

    Args:
        final: by arm, AP and AP50 of what it ended in.
        steps: by stage of the alternating training, its metrics.
        joint_recall: by arm, the average recall of the joint trainings' RPN.
        differences: by what is subtracted, AP and AP50 paired by seed.
        recall: AR of the RPN after step 3 minus before, paired by seed.
        seconds: by arm, training and proposal passes, without evaluations.
        stages: by arm and stage: seconds of training, of the proposal pass after it and of
            evaluations, seconds per iteration, and bytes at the peak.
        ratios: by what is divided, time paired by seed.
        peaks: by arm, bytes at the peak.
        image_passes: by arm, images in training steps.
        frozen_passes: of the alternating ones, those below which nothing was trained.
        proposal_passes: by arm, images in proposal passes.
        optimizer_steps: by arm.
        undertrained: by joint arm, the seeds that ended below AP50 0.6.
        same_start: whether a seed's trainings began with the same weights; None if unknown.
    """

    final: dict[str, dict[str, Spread]]
    steps: dict[str, dict[str, Spread]]
    joint_recall: dict[str, dict[str, Spread]]
    differences: dict[str, dict[str, Spread]]
    recall: dict[str, Spread]
    seconds: dict[str, Spread]
    stages: dict[str, dict[str, dict[str, Spread]]]
    ratios: dict[str, Spread]
    peaks: dict[str, Spread]
    image_passes: dict[str, int]
    frozen_passes: int
    proposal_passes: dict[str, int]
    optimizer_steps: dict[str, int]
    undertrained: dict[str, list[int]]
    same_start: bool | None


def run_study(study: Study) -> list[Run]:
    """Train what is not trained yet, and write record, report and plots.

    Returns:
        One run per way and seed.

    Raises:
        LossweaveError: wrong input, before anything is trained, or a training that failed.
    """
    from lossweave.studies.alternating_vs_joint.report import write_study

    if not study.seeds or study.jobs < 1:
        raise LossweaveError("the study needs a seed and at least one job at a time")
    read = read_staged(study.config, study.options)  # here, not in threads
    plans = _plans(study, read)
    checksum = hashlib.sha256(read.told.encode()).hexdigest()[:12]
    work = [
        partial(_train, study, arm, seed, plans[arm], read, checksum)
        for seed in study.seeds
        for arm in plans
    ]
    runs = run_all(work, study.jobs, "trainings", partial(_standing, study, list(plans)))
    found = find(runs)
    facts = provenance(
        study.command,
        config=study.config,
        seeds=study.seeds,
        options=study.options,
        jobs=study.jobs,
    )
    results = dict(findings=asdict(found), runs=[_as_dict(run) for run in runs])
    write_json(Path(study.work_dir) / "alternating_vs_joint.json", {**facts, **results})
    write_study(study, runs, found)
    return runs


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


def _as_dict(run: Run) -> dict[str, Any]:
    return dict(arm=run.arm, seed=run.seed, start=run.start, record=run.record.as_dict())


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


# ------------------------------------------------------------------------------ findings


def find(runs: Sequence[Run]) -> Findings:
    """What the trainings say; differences and ratios are paired by seed.

    Args:
        runs: of any seeds; alternating ones among them.
    """
    arms: dict[str, dict[int, Run]] = {}
    for run in runs:
        arms.setdefault(run.arm, {})[run.seed] = run
    four, joints = arms[ALTERNATING], {a: r for a, r in arms.items() if a != ALTERNATING}
    any_four = next(iter(four.values())).record
    names = [stage.name for stage in any_four.stages]
    detectors = [name for name in names if name.startswith("rcnn")]
    rpns = [name for name in names if name.startswith("rpn")]
    step2 = _staged(detectors[0])
    return Findings(
        final={arm: {m: _over(found, _final(m)) for m in ("AP", "AP50")}
               for arm, found in arms.items()},
        steps={name: {m: _over(four, partial(_staged(name), metric=m))
                      for m in ("AP", "AP50", *_RECALLS)
                      if any(m in _stage(run, name).metrics for run in four.values())}
               for name in names},
        joint_recall={arm: {m: _over(found, _final(m)) for m in _RECALLS}
                      for arm, found in joints.items()},
        differences=_differences(four, joints, step2, several=len(detectors) > 1),
        recall={m: _paired(four, partial(_staged(rpns[1]), metric=m),
                           four, partial(_staged(rpns[0]), metric=m))
                for m in _RECALLS} if len(rpns) > 1 else {},
        seconds={arm: _over(found, _seconds) for arm, found in arms.items()},
        stages={arm: _stage_costs(found) for arm, found in arms.items()},
        ratios=_ratios(four, joints, detectors[0], several=len(detectors) > 1),
        peaks={arm: _over(found, _peak) for arm, found in arms.items()},
        image_passes={arm: _any(found).image_passes for arm, found in arms.items()},
        frozen_passes=sum(s.image_passes for s in any_four.stages
                          if "backbone" in s.parts.get("frozen", ())),
        proposal_passes={arm: sum(s.proposals.images for s in _any(found).stages if s.proposals)
                         for arm, found in arms.items()},
        optimizer_steps={arm: sum(s.optimizer_steps for s in _any(found).stages)
                         for arm, found in arms.items()},
        undertrained={arm: low for arm, found in joints.items()
                      if (low := [s for s, run in sorted(found.items())
                                  if not run.final.get("AP50", 0.0) >= UNDERTRAINED])},
        same_start=_same_start(runs),
    )  # fmt: skip


def _same_start(runs: Sequence[Run]) -> bool | None:
    starts: dict[int, set[str | None]] = {}
    for run in runs:
        starts.setdefault(run.seed, set()).add(run.start)
    if any(None in found for found in starts.values()):
        return None
    return all(len(found) == 1 for found in starts.values())


_Read = Callable[..., float]


def _any(found: dict[int, Run]) -> TrainingRecord:
    return next(iter(found.values())).record


def _stage(run: Run, name: str) -> StageRecord:
    return next((s for s in run.record.stages if s.name == name), StageRecord(name))


def _final(metric: str) -> _Read:
    return lambda run: run.final.get(metric, float("nan"))


def _staged(name: str) -> _Read:
    return lambda run, metric: _stage(run, name).metrics.get(metric, float("nan"))


def _seconds(run: Run) -> float:
    return run.record.training_seconds


def _median_seconds(run: Run, last: str | None = None) -> float:
    """The same from the stages' median iterations, up to a stage: other load counts less."""
    total = 0.0
    for stage in run.record.stages:
        total += stage.iterations * stage.seconds_per_iteration
        total += stage.proposals.seconds if stage.proposals else 0.0
        if stage.name == last:
            break
    return total


def _peak(run: Run) -> float:
    known = [s.peak_memory for s in run.record.stages if s.peak_memory]
    return float(max(known)) if known else float("nan")


def _over(found: dict[int, Run], read: _Read) -> Spread:
    return spread([read(run) for _, run in sorted(found.items())])


def _paired(a: dict[int, Run], read_a: _Read, b: dict[int, Run], read_b: _Read) -> Spread:
    left = {seed: read_a(run) for seed, run in a.items()}
    right = {seed: read_b(run) for seed, run in b.items()}
    return spread([*differences(left, right).values()])


def _differences(
    four: dict[int, Run], joints: dict[str, dict[int, Run]], step2: _Read, several: bool
) -> dict[str, dict[str, Spread]]:
    found = {}
    metrics = ("AP", "AP50")
    end = "after step 4" if several else "after step 2"
    for arm, runs in joints.items():
        found[f"{end} - {arm}"] = {m: _paired(four, _final(m), runs, _final(m)) for m in metrics}
    if several:
        for arm, runs in joints.items():
            found[f"after step 2 - {arm}"] = {
                m: _paired(four, partial(step2, metric=m), runs, _final(m)) for m in metrics
            }
        found["after step 4 - after step 2"] = {
            m: _paired(four, _final(m), four, partial(step2, metric=m)) for m in metrics
        }
    if len(joints) > 1:
        found[f"{EQUAL} - {JOINT}"] = {
            m: _paired(joints[EQUAL], _final(m), joints[JOINT], _final(m)) for m in metrics
        }
    return found


def _ratios(
    four: dict[int, Run], joints: dict[str, dict[int, Run]], last: str, several: bool
) -> dict[str, Spread]:
    def two_steps(run: Run) -> float:
        names = [stage.name for stage in run.record.stages]
        first = run.record.stages[: names.index(last) + 1]
        return sum(s.seconds + (s.proposals.seconds if s.proposals else 0.0) for s in first)

    found = {}
    ways: dict[str, tuple[_Read, _Read]] = {"all steps": (_seconds, _seconds)}
    if several:
        ways["steps 1 and 2"] = (two_steps, _seconds)
    ways["all steps, by median iterations,"] = (_median_seconds, _median_seconds)
    if several:
        half = partial(_median_seconds, last=last)
        ways["steps 1 and 2, by median iterations,"] = (half, _median_seconds)
    for arm, runs in joints.items():
        for way, (read, below) in ways.items():
            seeds = sorted(set(four) & set(runs))
            ratios = [read(four[s]) / b for s in seeds if (b := below(runs[s])) > 0]
            found[f"{way} / {arm}"] = spread(ratios)
    return found


def _stage_costs(found: dict[int, Run]) -> dict[str, dict[str, Spread]]:
    def costs(name: str) -> dict[str, Spread]:
        stages = [_stage(run, name) for _, run in sorted(found.items())]
        return {
            "training": spread([s.seconds for s in stages]),
            "proposals": spread([s.proposals.seconds for s in stages if s.proposals]),
            "evaluation": spread([s.evaluation_seconds for s in stages]),
            "per iteration": spread([s.seconds_per_iteration for s in stages]),
            "peak": spread([s.peak_memory for s in stages if s.peak_memory]),
        }

    return {stage.name: costs(stage.name) for stage in _any(found).stages}
