"""lossweave: replace the fixed sum of a detector's losses by a combiner of your choice."""

from lossweave.combination import LossCombination, build_combination
from lossweave.combination.penalty import ParameterPenalty
from lossweave.combination.terms import TermMap
from lossweave.combiners import (
    Combiner,
    GradientCombiner,
    build_combiner,
    combiner_names,
    register_combiner,
)
from lossweave.errors import LossweaveError

__all__ = [
    "Combiner",
    "GradientCombiner",
    "LossCombination",
    "LossweaveError",
    "ParameterPenalty",
    "TermMap",
    "__version__",
    "build_combination",
    "build_combiner",
    "combiner_names",
    "register_combiner",
]

__version__ = "0.1.0"
