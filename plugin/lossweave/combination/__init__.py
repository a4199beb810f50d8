"""From a detector's raw losses to the one scalar that is optimised."""

from lossweave.combination.build import build_combination
from lossweave.combination.combination import LossCombination
from lossweave.combination.terms import TermMap

__all__ = ["LossCombination", "TermMap", "build_combination"]
