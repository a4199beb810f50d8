"""What the study asks for, what a training ends in, and what the seeds say."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from lossweave.errors import LossweaveError
from lossweave.staged.record import StageRecord, TrainingRecord
from lossweave.studies.ledger.book import LedgerOptions
from lossweave.studies.report.paired import Spread, spread

__all__ = [
    "ALTERNATING",
    "EQUAL",
    "JOINT",
    "PAPER_PASSES",
    "RECORD_RATIOS",
    "STEP4",
    "UNDERTRAINED",
    "Findings",
    "Run",
    "Study",
    "find",
    "pairs",
    "step4_of",
    "variant",
]

ALTERNATING, JOINT, EQUAL = "alternating", "joint", "joint-equal"
#: Where else the RoI head of step 4 may start (:func:`lossweave.staged.four_step.four_step`).
STEP4 = ("matlab", "mx-rcnn")
_VARIANT = f"{ALTERNATING} step4="
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
        ledger: where results are, and what of them counts.
        lengths: multiples of the config's budgets, each of which is trained.
        step4: of :data:`STEP4`, trained beside the config's own.
    """

    config: str
    seeds: tuple[int, ...] = (0, 1, 2)
    work_dir: str = "work_dirs/alternating_vs_joint"
    jobs: int = 1
    options: tuple[str, ...] = ()
    equal: bool = True
    command: str = "python tools/alternating_vs_joint.py"
    ledger: LedgerOptions = field(default_factory=LedgerOptions)
    lengths: tuple[float, ...] = (1.0,)
    step4: tuple[str, ...] = ()


def variant(step4: str) -> str:
    """The arm of an alternating training whose step 4 starts elsewhere.

    Example:
        >>> variant("matlab"), step4_of(variant("matlab")), step4_of("joint")
        ('alternating step4=matlab', 'matlab', None)
    """
    return _VARIANT + step4


def step4_of(arm: str) -> str | None:
    """Where step 4 of such an arm starts; None for other arms."""
    return arm.removeprefix(_VARIANT) if arm.startswith(_VARIANT) else None


@dataclass(frozen=True)
class Run:
    """One finished training.

    Args:
        arm: 'alternating', 'joint', 'joint-equal', or a :func:`variant`.
        seed: its seed.
        record: what it measured.
        start: a checksum of the initial weights; None where they are not kept.
        place: which code trained on what machine. Trainings of two places are no pair.
    """

    arm: str
    seed: int
    record: TrainingRecord
    start: str | None = None
    place: str = ""

    @property
    def final(self) -> dict[str, float]:
        """The metrics of what the training ended in."""
        if self.record.unified is not None:
            return self.record.unified.metrics
        return next((s.metrics for s in reversed(self.record.stages) if "AP" in s.metrics), {})

    def median_seconds(self, last: str | None = None) -> float:
        """Training and proposal passes from the stages' median iterations: other load counts less.

        Args:
            last: the stage to end with; None means all.
        """
        total = 0.0
        for stage in self.record.stages:
            total += stage.iterations * stage.seconds_per_iteration
            total += stage.proposals.seconds if stage.proposals else 0.0
            if stage.name == last:
                break
        return total


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


def find(runs: Sequence[Run]) -> Findings:
    """What the trainings say; differences and ratios are paired by seed.

    Args:
        runs: of any seeds; alternating ones among them.

    Raises:
        LossweaveError: there is no alternating one.
    """
    arms: dict[str, dict[int, Run]] = {}
    for run in runs:
        arms.setdefault(run.arm, {}).setdefault(run.seed, run)
    if ALTERNATING not in arms:
        raise LossweaveError("the study lacks the results of alternating training")
    four, joints = arms[ALTERNATING], {a: r for a, r in arms.items() if a in (JOINT, EQUAL)}
    variants = {arm: found for arm, found in arms.items() if step4_of(arm) is not None}
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
        differences=_differences(four, joints, variants, step2, several=len(detectors) > 1),
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


def _peak(run: Run) -> float:
    known = [s.peak_memory for s in run.record.stages if s.peak_memory]
    return float(max(known)) if known else float("nan")


def _over(found: dict[int, Run], read: _Read) -> Spread:
    return spread([read(run) for _, run in sorted(found.items())])


def _paired(a: dict[int, Run], read_a: _Read, b: dict[int, Run], read_b: _Read) -> Spread:
    return spread([read_a(a[seed]) - read_b(b[seed]) for seed in pairs(a, b)])


def pairs(a: dict[int, Run], b: dict[int, Run]) -> list[int]:
    """The seeds that both have, of the same code and machine."""
    return [seed for seed in sorted(set(a) & set(b)) if a[seed].place == b[seed].place]


def _differences(
    four: dict[int, Run],
    joints: dict[str, dict[int, Run]],
    variants: dict[str, dict[int, Run]],
    step2: _Read,
    several: bool,
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
    for arm, runs in variants.items():
        found[f"{arm} - {ALTERNATING}"] = {
            m: _paired(runs, _final(m), four, _final(m)) for m in metrics
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
    ways["all steps, by median iterations,"] = (Run.median_seconds, Run.median_seconds)
    if several:
        half = partial(Run.median_seconds, last=last)
        ways["steps 1 and 2, by median iterations,"] = (half, Run.median_seconds)
    for arm, runs in joints.items():
        for way, (read, below) in ways.items():
            seeds = pairs(four, runs)
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
