"""The cost of the boundaries: its limit, its refusals, and one small measurement."""

import json

import pytest

from lossweave.errors import LossweaveError
from lossweave.studies.boundaries import BOUNDARIES, k_pass_limit, run_boundaries
from lossweave.studies.command_line import benchmark


def test_limit() -> None:
    assert k_pass_limit(1.0, 1.0, 1) == 1.0
    assert k_pass_limit(1.0, 3.0, 3) == 2.5


def test_values_have_no_boundary() -> None:
    with pytest.raises(LossweaveError, match="DWA combines no gradients"):
        run_boundaries("DWA")


def test_one_detector(tmp_path) -> None:
    benchmark(
        ["--boundaries", "PCGrad", "--detectors", "ssd", "--rounds", "2", "--batch-size", "1",
         "--work-dir", str(tmp_path)]
    )  # fmt: skip
    (result,) = json.loads((tmp_path / "boundaries.json").read_text())["results"]
    assert set(BOUNDARIES) < set(result["steps"])
    assert result["terms"] == 2 and 1 < result["limit"] < 2
    assert all(min(step["a"]) > 0 for step in result["steps"].values())
    assert "K-pass limit" in (tmp_path / "boundaries.md").read_text()
