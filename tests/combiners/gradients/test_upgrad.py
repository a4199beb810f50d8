"""UPGrad: the oracle; with preferences of 1 it is PCGrad for two terms."""

import pytest
import torch
from helpers.gradient_cases import GradientCase
from helpers.gradient_rows import (
    JACOBIAN,
    combined,
    make,
    missing_solver_is_said,
    near,
    preferences_go_by_name,
    rows_at,
)

from lossweave.combiners import build_combiner
from lossweave.errors import LossweaveError

CASES = {"UPGrad": GradientCase(no_term_worse={})}


def test_oracle() -> None:
    near(combined(make("UPGrad"), JACOBIAN), [0.2929, 1.9004, 1.9004])


def test_for_two_terms_it_is_pcgrad() -> None:
    for t in range(5):
        rows = rows_at(t, 2)
        both = make("UPGrad", pref_vector=[1.0, 1.0], reg_eps=1e-9)
        torch.testing.assert_close(combined(both, rows), combined(make("PCGrad"), rows))


def test_preferences_by_name() -> None:
    preferences_go_by_name("UPGrad")


def test_a_missing_solver_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    missing_solver_is_said("UPGrad", "quadprog", "quadprog-projector", monkeypatch)


def test_wrong_arguments() -> None:
    with pytest.raises(LossweaveError, match=r"reg_eps=0\.0"):
        build_combiner({"type": "UPGrad", "reg_eps": 0.0})
