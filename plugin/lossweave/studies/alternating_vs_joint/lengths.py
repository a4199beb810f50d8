"""Alternating against joint training at several lengths: whether the gap closes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log2

import numpy as np

from lossweave.errors import LossweaveError
from lossweave.staged.stages import Budget
from lossweave.studies.alternating_vs_joint.configs import StagedConfig
from lossweave.studies.alternating_vs_joint.findings import (
    ALTERNATING,
    JOINT,
    Findings,
    Run,
    find,
    pairs,
)
from lossweave.studies.report.paired import Spread, spread

__all__ = [
    "PAPER_JOINT_STEPS",
    "Length",
    "Lengths",
    "budget_options",
    "find_lengths",
    "length_budget",
    "length_options",
]

#: Iterations of py-faster-rcnn's joint training.
PAPER_JOINT_STEPS = 70_000


@dataclass(frozen=True)
class Length:
    """What the trainings of one length say.

    Args:
        steps: iterations of joint training.
        passes: its image passes.
        ends: by seed, AP of the alternating and of the joint training.
        ratio: by seed, time of alternating over that of joint training, by median iterations.
        found: everything else, as of a study of this length alone.
    """

    steps: int
    passes: int
    ends: dict[int, tuple[float, float]]
    ratio: dict[int, float]
    found: Findings

    @property
    def name(self) -> str:
        """What the papers' iterations are divided by.

        Example:
            >>> Length(350, 2800, {}, {}, None).name
            '/ 200'
        """
        return f"/ {PAPER_JOINT_STEPS / self.steps:.3g}"

    @property
    def gap(self) -> dict[int, float]:
        """By seed, alternating minus joint AP."""
        return {seed: four - joint for seed, (four, joint) in self.ends.items()}


@dataclass(frozen=True)
class Lengths:
    """What several lengths say together.

    Args:
        each: from the shortest on; those without a pair of trainings are left out.
        slope: change of the gap a doubling of the length, by a line through each seed's lengths;
            seeds of a single length have none.
    """

    each: tuple[Length, ...]
    slope: Spread


def budget_options(name: str, budget: Budget, iterations: int, warmup: int) -> list[str]:
    """``--cfg-options`` of a budget of another length; learning rate drops keep their proportion.

    Args:
        name: the budget's, e.g. 'joint'.
        budget: as it stands in the config.
        iterations: the new ones.
        warmup: likewise; it is set where it differs.

    Example:
        >>> budget_options("rpn", Budget(400, 4, drops=(300,), warmup=40), 200, 20)
        ['schedule.rpn.iterations=200', 'schedule.rpn.drops=[150]', 'schedule.rpn.warmup=20']
    """
    drops = [max(1, round(drop * iterations / budget.iterations)) for drop in budget.drops]
    shown = "[" + ",".join(str(drop) for drop in dict.fromkeys(drops)) + "]"
    return [
        f"schedule.{name}.iterations={iterations}",
        *([f"schedule.{name}.drops={shown}"] if drops else []),
        *([f"schedule.{name}.warmup={warmup}"] if warmup != budget.warmup else []),
    ]


def length_options(read: StagedConfig, factor: float) -> list[str]:
    """``--cfg-options`` that multiply all budgets of a config, warm-ups and drops with them.

    Args:
        read: the config.
        factor: of its length; 1 changes nothing.

    Raises:
        LossweaveError: the config's stages are not the four steps.
    """
    if factor == 1:
        return []
    options = []
    for name, budget in _budgets(read).items():
        iterations = max(1, round(budget.iterations * factor))
        warmup = round((budget.warmup or 0) * factor)
        options += budget_options(name, budget, iterations, warmup)
    return options


def length_budget(read: StagedConfig, factor: float) -> dict[str, int]:
    """The same as a result's budget; nothing for the length that the config has."""
    if factor == 1:
        return {}
    return {name: max(1, round(b.iterations * factor)) for name, b in _budgets(read).items()}


def _budgets(read: StagedConfig) -> dict[str, Budget]:
    """The budgets that make a schedule of four steps, and the joint one."""
    stages = {stage.name: stage.budget for stage in read.schedule.stages}
    if not {"rpn1", "rcnn1"} <= set(stages):
        raise LossweaveError(
            f"--lengths: the stages are {', '.join(stages)}; only a schedule of type 'four_step' "
            "has budgets of its steps to multiply"
        )
    return {"rpn": stages["rpn1"], "rcnn": stages["rcnn1"], "joint": read.joint.stages[0].budget}


def find_lengths(groups: Sequence[Sequence[Run]]) -> Lengths:
    """What trainings of several lengths say; all is paired by seed.

    Args:
        groups: the trainings of each length, in whatever order.
    """
    found = [_length(runs) for runs in groups]
    each = sorted((one for one in found if one is not None), key=lambda one: one.passes)
    return Lengths(tuple(each), spread(_slopes(each)))


def _length(runs: Sequence[Run]) -> Length | None:
    four = {run.seed: run for run in reversed(runs) if run.arm == ALTERNATING}
    joint = {run.seed: run for run in reversed(runs) if run.arm == JOINT}
    seeds = pairs(four, joint)
    if not seeds:
        return None
    record = joint[seeds[0]].record
    return Length(
        steps=sum(stage.optimizer_steps for stage in record.stages),
        passes=record.image_passes,
        ends={s: (_ap(four[s]), _ap(joint[s])) for s in seeds},
        ratio={s: four[s].median_seconds() / joint[s].median_seconds() for s in seeds},
        found=find(runs),
    )


def _ap(run: Run) -> float:
    """AP of what a training ended in; a detector that finds nothing has none, i.e. 0."""
    return run.final.get("AP", 0.0)


def _slopes(each: Sequence[Length]) -> list[float]:
    found = []
    for seed in sorted({seed for one in each for seed in one.gap}):
        points = [(log2(one.passes), one.gap[seed]) for one in each if seed in one.gap]
        if len(points) > 1:
            lengths, gaps = zip(*points, strict=True)
            found.append(float(np.polyfit(lengths, gaps, 1)[0]))
    return found
