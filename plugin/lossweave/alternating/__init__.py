"""Training in stages: the 4-step schedule, freezing, proposals and the record. No framework."""

from lossweave.alternating.four_step import build_schedule, four_step, joint
from lossweave.alternating.freezing import FrozenGuard, drop_frozen, freeze
from lossweave.alternating.measure import StageMeasure
from lossweave.alternating.plan import Plan
from lossweave.alternating.proposals import ProposalFile, ProposalWriter
from lossweave.alternating.recall import average_recall
from lossweave.alternating.record import (
    CurvePoint,
    ProposalPass,
    StageRecord,
    TrainingRecord,
    UnifiedRecord,
)
from lossweave.alternating.stages import Budget, Schedule, Stage

__all__ = [
    "Budget",
    "CurvePoint",
    "FrozenGuard",
    "Plan",
    "ProposalFile",
    "ProposalPass",
    "ProposalWriter",
    "Schedule",
    "Stage",
    "StageMeasure",
    "StageRecord",
    "TrainingRecord",
    "UnifiedRecord",
    "average_recall",
    "build_schedule",
    "drop_frozen",
    "four_step",
    "freeze",
    "joint",
]
