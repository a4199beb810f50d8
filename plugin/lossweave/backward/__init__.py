"""The autograd roots: where the combined scalar meets the terms' own graphs."""

from lossweave.backward._boundary import Boundary
from lossweave.backward._boundary_state import BoundaryState
from lossweave.backward._gradient_root import gradient_root
from lossweave.backward._graph import reach, reached_leaves, refuse_hidden
from lossweave.backward._hooks import unwatched
from lossweave.backward._reach import GraphCache, reachability_of
from lossweave.backward._rows import inner_products
from lossweave.backward._term_rows import term_rows
from lossweave.backward._value_root import weighted_root

__all__ = [
    "Boundary",
    "BoundaryState",
    "GraphCache",
    "gradient_root",
    "inner_products",
    "reach",
    "reachability_of",
    "reached_leaves",
    "refuse_hidden",
    "term_rows",
    "unwatched",
    "weighted_root",
]
