"""MGDA: the oracle, the closed form for two terms."""

import pytest
import torch
from helpers.gradient_cases import GradientCase
from helpers.gradient_rows import JACOBIAN, combined, make, missing_solver_is_said, near, rows_at

from lossweave.combiners import build_combiner
from lossweave.errors import LossweaveError

CASES = {"MGDA": GradientCase(no_term_worse={})}


def test_oracle() -> None:
    near(combined(make("MGDA"), JACOBIAN), [0, 1, 1])
    near(make("MGDA").weights_of(JACOBIAN @ JACOBIAN.T), [0.6, 0.4])


def test_closed_form_for_two() -> None:
    for t in range(5):
        one, two = rows = rows_at(t, 2)
        gamma = ((two - one) @ two / (one - two).square().sum()).clamp(0, 1)
        torch.testing.assert_close(combined(make("MGDA"), rows), gamma * one + (1 - gamma) * two)
    short_long = torch.tensor([[1.0, 0.0], [10.0, 0.0]])
    assert combined(make("MGDA"), short_long).tolist() == pytest.approx([1, 0])


def test_a_missing_solver_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    missing_solver_is_said("MGDA", "torchjd", "", monkeypatch)


def test_wrong_arguments() -> None:
    with pytest.raises(LossweaveError, match=r"epsilon=0\.0"):
        build_combiner({"type": "MGDA", "epsilon": 0.0})
