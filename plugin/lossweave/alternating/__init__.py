"""Training in stages: the 4-step schedule, freezing, proposals and the record. No framework."""

from lossweave.alternating.record import (
    CurvePoint,
    ProposalPass,
    StageRecord,
    TrainingRecord,
    UnifiedRecord,
)

__all__ = [
    "CurvePoint",
    "ProposalPass",
    "StageRecord",
    "TrainingRecord",
    "UnifiedRecord",
]
