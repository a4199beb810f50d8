"""GradVac: against TorchJD's, its memory."""

import pytest
import torch
from helpers.gradient_cases import GradientCase
from helpers.gradient_rows import combined, make, memory_moves_once_per_update, rows_at
from torchjd import aggregation

from lossweave.combiners import build_combiner
from lossweave.errors import LossweaveError

CASES = {"GradVac": GradientCase({"seed": 2}, order_tolerance=None)}


def test_memory_moves_once_per_update() -> None:
    memory_moves_once_per_update(make("GradVac", 3))


def test_it_is_torchjds() -> None:
    own, theirs = make("GradVac", 2), aggregation.GradVac()
    for t in range(5):
        rows = rows_at(t, 2)
        expected = theirs(rows / rows.norm()) * rows.norm()
        torch.testing.assert_close(combined(own, rows), expected)


def test_wrong_arguments() -> None:
    with pytest.raises(LossweaveError, match=r"beta=1\.5"):
        build_combiner({"type": "GradVac", "beta": 1.5})
