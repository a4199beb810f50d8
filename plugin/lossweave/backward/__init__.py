"""The autograd roots: where the combined scalar meets the terms' own graphs."""

from lossweave.backward._boundary import Boundary, BoundaryState
from lossweave.backward._gradient_root import gradient_root
from lossweave.backward._graph import reach, reached_leaves
from lossweave.backward._reach import Recall, surroundings
from lossweave.backward._value_root import weighted_root

__all__ = [
    "Boundary",
    "BoundaryState",
    "Recall",
    "gradient_root",
    "reach",
    "reached_leaves",
    "surroundings",
    "weighted_root",
]
