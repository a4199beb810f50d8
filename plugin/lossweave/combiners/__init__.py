"""Combiners: functions from the K loss terms of one iteration to one scalar.

One method, one file; no detection framework is imported here. A new one touches its file,
this list, its test and its row in ``docs/combiners.md``.
"""

from lossweave.combiners.alternating import Alternating
from lossweave.combiners.base import Combined, Combiner
from lossweave.combiners.convex import Convex
from lossweave.combiners.dwa import DWA
from lossweave.combiners.extremes import Max, Min
from lossweave.combiners.famo import FAMO
from lossweave.combiners.geometric_mean import GeometricMean
from lossweave.combiners.imtl_l import IMTLL
from lossweave.combiners.lp_norm import LpNorm
from lossweave.combiners.magnitude_matched import MagnitudeMatched
from lossweave.combiners.product import Product
from lossweave.combiners.random_weighting import RandomWeighting
from lossweave.combiners.ratio_aligned import RatioAligned
from lossweave.combiners.registry import (
    build_combiner,
    combiner_class,
    combiner_names,
    register_combiner,
)
from lossweave.combiners.self_normalized import SelfNormalized
from lossweave.combiners.squared_sum import SquaredSum
from lossweave.combiners.stch import STCH
from lossweave.combiners.sum import Sum
from lossweave.combiners.uncertainty_weighting import UncertaintyWeighting

__all__ = [
    "DWA",
    "FAMO",
    "IMTLL",
    "STCH",
    "Alternating",
    "Combined",
    "Combiner",
    "Convex",
    "GeometricMean",
    "LpNorm",
    "MagnitudeMatched",
    "Max",
    "Min",
    "Product",
    "RandomWeighting",
    "RatioAligned",
    "SelfNormalized",
    "SquaredSum",
    "Sum",
    "UncertaintyWeighting",
    "build_combiner",
    "combiner_class",
    "combiner_names",
    "register_combiner",
]
