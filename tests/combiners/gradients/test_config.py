"""ConFIG from the Gramian against TorchJD's from the rows."""

import torch
from helpers.gradient_cases import GradientCase
from helpers.gradient_rows import preferences_go_by_name
from torchjd import aggregation

from lossweave.combiners.gradients.config import config_weights

CASES = {"ConFIG": GradientCase()}


def test_preferences_by_name() -> None:
    preferences_go_by_name("ConFIG")


def test_it_is_torchjds() -> None:
    for t in range(10):
        generator = torch.Generator().manual_seed(t)
        rows = torch.randn(2 + t % 3, 9, generator=generator, dtype=torch.float64)
        preference = torch.rand(len(rows), generator=generator, dtype=torch.float64)
        found = config_weights(rows @ rows.T, preference) @ rows
        torch.testing.assert_close(found, aggregation.ConFIG(preference)(rows))


def test_opposed_gradients_have_no_direction() -> None:
    gramian = torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=torch.float64)
    assert config_weights(gramian, torch.ones(2, dtype=torch.float64)).abs().max() < 1e-6
