"""CAGrad: the oracle."""

import pytest
import torch
from helpers.gradient_cases import GradientCase
from helpers.gradient_rows import JACOBIAN, combined, make, missing_solver_is_said, near

from lossweave.combiners import build_combiner
from lossweave.errors import LossweaveError

CASES = {"CAGrad": GradientCase({"c": 0.4}, no_term_worse={"c": 1.0})}


def test_oracle() -> None:
    near(combined(make("CAGrad", c=0.5), JACOBIAN), [0.1835, 1.2041, 1.2041])


def test_a_missing_solver_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    missing_solver_is_said("CAGrad", "clarabel", "cagrad", monkeypatch)


def test_wrong_arguments() -> None:
    with pytest.raises(LossweaveError, match=r"c=-0\.1"):
        build_combiner({"type": "CAGrad", "c": -0.1})


def test_lengths_far_apart_look_like_gradients_that_cancel_unless_normalised() -> None:
    rows = torch.tensor([[1.0, 0.0], [0.3e-5, 1e-5]], dtype=torch.float64)
    assert not any(make("CAGrad").weights_of(rows @ rows.T))
    assert all(make("CAGrad", normalize=True).weights_of(rows @ rows.T))
