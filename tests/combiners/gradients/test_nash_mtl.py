"""NashMTL: the bargain's condition, the closed form for two terms, what its search starts from."""

from typing import Any

import pytest
import torch
from helpers.gradient_cases import GradientCase
from helpers.gradient_reference import Reference
from helpers.gradient_rows import (
    JACOBIAN,
    combined,
    make,
    memory_moves_once_per_update,
    missing_solver_is_said,
    near,
    rows_at,
)
from torch import Tensor
from torchjd import aggregation

from lossweave.combiners import build_combiner
from lossweave.errors import LossweaveError


class NashReference(Reference):
    """TorchJD's, one for each number of terms; the start of a search goes from each to the next."""

    def start(self, options: dict[str, Any]) -> None:
        self.aggregators: Any = {n: aggregation.NashMTL(n) for n in range(1, self.terms + 1)}
        self.alpha = torch.ones(self.terms, dtype=torch.float64)

    def combine_alive(
        self, rows: Tensor, alive: list[int], update: int, draws: Tensor, last: bool
    ) -> Tensor:
        weighting = self.aggregators[len(alive)].weighting
        if weighting.step == 0:
            weighting(torch.eye(len(alive), dtype=torch.float64))
        weighting.prvs_alpha = self.alpha[alive].numpy()
        unit = rows / (rows @ rows.T).norm().sqrt()
        combined = weighting(unit) @ unit
        if last:
            self.alpha[alive] = torch.from_numpy(weighting.prvs_alpha).double()
        return combined


#: Its solver stops at a residual of its own.
CASES = {
    "NashMTL": GradientCase(
        reference=NashReference, tolerance=1e-3, scale_free=False, order_tolerance=2e-2
    )
}


def test_oracle() -> None:
    near(combined(make("NashMTL"), JACOBIAN), [0.0542, 0.7061, 0.7061])


def test_closed_form_for_two() -> None:
    for t in range(5):
        one, two = rows = rows_at(t, 2)
        n1, n2, cosine = one.norm(), two.norm(), one @ two / one.norm() / two.norm()
        nash = torch.tensor(make("NashMTL", max_norm=0.0).weights_of(rows @ rows.T))
        alpha = torch.stack([1 / n1, 1 / n2]) / (1 + cosine).sqrt()
        torch.testing.assert_close(nash / nash[0], (alpha / alpha[0]).to(nash), rtol=2e-2, atol=0)


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1.0, 1e3])
def test_nash_condition(scale: float) -> None:
    gramian = scale**2 * torch.tensor([[177.0, -6.6, 728.0], [-6.6, 15.3, -49.0],
                                       [728.0, -49.0, 5785.0]]).double()  # fmt: skip
    weights = torch.tensor(make("NashMTL", 3).weights_of(gramian)).double()
    gains = weights * (gramian @ weights)  # what every player's bargain is worth: all the same
    torch.testing.assert_close(gains / gains.mean(), torch.ones(3).double(), rtol=1e-3, atol=0)
    assert (weights @ gramian @ weights).sqrt() <= 1 + 1e-6


def test_memory_moves_once_per_update() -> None:
    memory_moves_once_per_update(make("NashMTL", 3))


def test_a_missing_solver_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    missing_solver_is_said("NashMTL", "ecos", "nash-mtl", monkeypatch)


def test_wrong_arguments() -> None:
    with pytest.raises(LossweaveError, match=r"max_norm=-1\.0"):
        build_combiner({"type": "NashMTL", "max_norm": -1.0})
