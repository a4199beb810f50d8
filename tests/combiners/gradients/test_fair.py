"""Fair weights of terms that are not equally important: what they solve, and TorchJD's."""

import pytest
import torch
from helpers.gradient_rows import rows_at
from torchjd import aggregation

from lossweave.combiners.gradients._fair import fair_weights


@pytest.mark.parametrize("alpha", [0.3, 1.0, 2.0, 10.0])
@pytest.mark.parametrize("count", [2, 3, 20])
def test_they_solve_their_equation(alpha: float, count: int) -> None:
    generator = torch.Generator().manual_seed(count)
    for _ in range(5):
        sizes = torch.logspace(-2, 2, count, dtype=torch.float64)[:, None]
        rows = sizes * torch.randn(count, 30, generator=generator, dtype=torch.float64)
        shares = 0.2 + torch.rand(count, generator=generator, dtype=torch.float64)
        gramian = rows @ rows.T
        weights = fair_weights(gramian, shares, alpha)
        torch.testing.assert_close(
            gramian @ weights, (shares / weights) ** (1 / alpha), rtol=1e-5, atol=0
        )


@pytest.mark.parametrize("alpha", [1.0, 2.0])
def test_equal_shares_are_torchjds(alpha: float) -> None:
    rows = rows_at(4)
    theirs = aggregation.FairGrad(alpha=alpha).gramian_weighting(rows @ rows.T)
    found = fair_weights(rows @ rows.T, torch.ones(3).double(), alpha)
    torch.testing.assert_close(found, theirs, rtol=1e-4, atol=1e-6)


def test_rows_that_cancel_have_none() -> None:
    opposed = torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=torch.float64)
    with pytest.raises((ValueError, torch.linalg.LinAlgError)):
        fair_weights(opposed, torch.ones(2).double(), 1.0)
