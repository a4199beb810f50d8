"""DualProj: against TorchJD's, its preferences."""

import pytest
import torch
from helpers.gradient_cases import GradientCase
from helpers.gradient_rows import (
    combined,
    make,
    missing_solver_is_said,
    preferences_go_by_name,
    rows_at,
)
from torchjd import aggregation

from lossweave.combiners import build_combiner
from lossweave.errors import LossweaveError

CASES = {"DualProj": GradientCase(no_term_worse={})}


def test_it_is_torchjds() -> None:
    for t in range(5):
        rows = rows_at(t)
        expected = aggregation.DualProj()(rows / rows.norm()) * rows.norm()
        torch.testing.assert_close(combined(make("DualProj", 3), rows), expected)


def test_preferences_by_name() -> None:
    preferences_go_by_name("DualProj")


def test_a_missing_solver_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    missing_solver_is_said("DualProj", "qpsolvers", "quadprog-projector", monkeypatch)


def test_wrong_arguments() -> None:
    with pytest.raises(LossweaveError, match=r"reg_eps=-1\.0"):
        build_combiner({"type": "DualProj", "reg_eps": -1.0})
