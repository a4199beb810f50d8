"""CAGrad: the oracle, its dual on a grid, rows of different lengths."""

from typing import Any

import pytest
import torch
from helpers.gradient_cases import GradientCase
from helpers.gradient_rows import JACOBIAN, combined, make, missing_solver_is_said, near
from torch import Tensor

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


def _best(rows: Tensor, centre: Tensor, c: float) -> Tensor:
    """The direction for two rows, from the dual on a fine grid of mixtures, refined."""
    low, high = 0.0, 1.0
    for _ in range(60):  # the cost is convex in the mixture
        grid = torch.linspace(low, high, 9, dtype=torch.float64)
        mixed = grid[:, None] * rows[0] + (1 - grid[:, None]) * rows[1]
        cost = mixed @ centre + c * centre.norm() * mixed.norm(dim=1)
        best = int(cost.argmin())
        low, high = grid[max(best - 1, 0)].item(), grid[min(best + 1, 8)].item()
    mixture = (low + high) / 2 * rows[0] + (1 - (low + high) / 2) * rows[1]
    return centre + c * centre.norm() * mixture / mixture.norm()


@pytest.mark.parametrize("ratio", [1.0, 1e-2, 1e-4, 1e-5, 1e-6, 1e-7])
@pytest.mark.parametrize("angle", [30.0, 90.0, 150.0])
@pytest.mark.parametrize("prefer", [None, [2.0, 1.0]])
def test_rows_of_very_different_lengths(ratio: float, angle: float, prefer: Any) -> None:
    turn = torch.deg2rad(torch.tensor(angle, dtype=torch.float64))
    lengths = torch.tensor([[1.0], [ratio]], dtype=torch.float64)
    rows = lengths * torch.stack([torch.eye(2).double()[0], torch.stack([turn.cos(), turn.sin()])])
    shares = torch.ones(2).double() if prefer is None else torch.tensor(prefer).double() / 1.5
    expected = _best(rows / shares[:, None], (shares / 2) @ rows, c=0.5)
    found = combined(make("CAGrad", c=0.5, prefer=prefer), rows)
    assert found.norm() > 0.15
    torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-2)


def test_gradients_that_cancel_have_no_direction() -> None:
    rows = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64)
    assert not any(make("CAGrad").weights_of(rows @ rows.T))
