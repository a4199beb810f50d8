"""Aligned-MTL: the oracle, its preferences."""

import pytest
from helpers.gradient_cases import GradientCase
from helpers.gradient_rows import JACOBIAN, combined, make, near, preferences_go_by_name

from lossweave.combiners import build_combiner
from lossweave.errors import LossweaveError

CASES = {"AlignedMTL": GradientCase()}


def test_oracle() -> None:
    near(combined(make("AlignedMTL"), JACOBIAN), [0.2133, 0.9673, 0.9673])


def test_preferences_by_name() -> None:
    preferences_go_by_name("AlignedMTL")


def test_wrong_arguments() -> None:
    with pytest.raises(LossweaveError, match="scale_mode='max' should be one of"):
        build_combiner({"type": "AlignedMTL", "scale_mode": "max"})
