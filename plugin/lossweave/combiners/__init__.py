"""Combiners: functions from the K loss terms of one iteration to one scalar.

One method, one file; no detection framework is imported here. A new one touches its file,
this list, its test and its row in ``docs/combiners.md``.
"""

from lossweave.combiners.aligned_mtl import AlignedMTL
from lossweave.combiners.alternating import Alternating
from lossweave.combiners.auto_loss import AutoLoss
from lossweave.combiners.base import Combined, Combiner
from lossweave.combiners.cagrad import CAGrad
from lossweave.combiners.con_fig import ConFIG
from lossweave.combiners.convex import Convex
from lossweave.combiners.dual_proj import DualProj
from lossweave.combiners.dwa import DWA
from lossweave.combiners.extremes import Max, Min
from lossweave.combiners.fair_grad import FairGrad
from lossweave.combiners.famo import FAMO
from lossweave.combiners.geometric_mean import GeometricMean
from lossweave.combiners.grad_drop import GradDrop
from lossweave.combiners.grad_norm import GradNorm
from lossweave.combiners.grad_vac import GradVac
from lossweave.combiners.gradient import GradientCombiner
from lossweave.combiners.imtl_g import IMTLG
from lossweave.combiners.imtl_l import IMTLL
from lossweave.combiners.lp_norm import LpNorm
from lossweave.combiners.magnitude_matched import MagnitudeMatched
from lossweave.combiners.mgda import MGDA
from lossweave.combiners.nash_mtl import NashMTL
from lossweave.combiners.pcgrad import PCGrad
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
from lossweave.combiners.upgrad import UPGrad

__all__ = [
    "DWA",
    "FAMO",
    "IMTLG",
    "IMTLL",
    "MGDA",
    "STCH",
    "AlignedMTL",
    "Alternating",
    "AutoLoss",
    "CAGrad",
    "Combined",
    "Combiner",
    "ConFIG",
    "Convex",
    "DualProj",
    "FairGrad",
    "GeometricMean",
    "GradDrop",
    "GradNorm",
    "GradVac",
    "GradientCombiner",
    "LpNorm",
    "MagnitudeMatched",
    "Max",
    "Min",
    "NashMTL",
    "PCGrad",
    "Product",
    "RandomWeighting",
    "RatioAligned",
    "SelfNormalized",
    "SquaredSum",
    "Sum",
    "UPGrad",
    "UncertaintyWeighting",
    "build_combiner",
    "combiner_class",
    "combiner_names",
    "register_combiner",
]
