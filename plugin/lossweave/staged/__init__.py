"""Training in stages: the 4-step schedule, freezing, proposals and the record. No framework."""

from lossweave.staged.four_step import build_schedule, four_step, joint
from lossweave.staged.freezing import FrozenGuard, drop_frozen, freeze
from lossweave.staged.measure import StageMeasure
from lossweave.staged.plan import Plan
from lossweave.staged.proposal_file import ProposalFile
from lossweave.staged.proposal_writer import ProposalWriter
from lossweave.staged.recall import average_recall
from lossweave.staged.record import (
    CurvePoint,
    ProposalPass,
    StageRecord,
    TrainingRecord,
    UnifiedRecord,
)
from lossweave.staged.stages import Budget, Schedule, Stage

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
