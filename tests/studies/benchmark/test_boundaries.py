"""The cost of the boundaries: refusals, one small measurement."""

import json

import pytest

from lossweave.errors import LossweaveError
from lossweave.studies.benchmark.boundaries import run_boundaries
from lossweave.studies.benchmark.boundary_findings import (
    BOUNDARIES,
    FLAT,
    TORCHJD,
    TORCHJD_MTL,
)
from lossweave.studies.benchmark.cli import benchmark
from lossweave.studies.benchmark.detectors import (
    CONTROL,
)


def test_methods_that_cannot_be_measured() -> None:
    with pytest.raises(LossweaveError, match="DWA combines no gradients"):
        run_boundaries("DWA")
    with pytest.raises(LossweaveError, match="GradNorm cannot be compared with TorchJD"):
        run_boundaries("GradNorm")


def test_one_detector(tmp_path) -> None:
    benchmark(
        ["--boundaries", "PCGrad", "--detectors", "ssd", "--rounds", "1", "--batch-size", "1",
         "--work-dir", str(tmp_path)]
    )  # fmt: skip
    (result,) = json.loads((tmp_path / "boundaries.json").read_text())["results"]
    rows = {CONTROL, *BOUNDARIES, FLAT, TORCHJD, TORCHJD_MTL}
    assert set(result["steps"]) == set(result["memory"]) == set(result["peaks"]) == rows
    assert result["terms"] == 2 and 1 < result["limit"] < 2
    assert len(result["heads_by_term"]) == 2 and min(result["heads_by_term"]) > 0
    assert max(result["heads_by_term"]) < result["backward"]
    assert 0.5 < result["heads_limit"] < result["limit"]  # of the SSD's terms, about 1
    assert all(min(step["a"]) > 0 for step in result["steps"].values())
    assert all(result["memory_limit"][n] > result["memory"][CONTROL] for n in rows)
    # One copy of the shared gradients is less than the detector's parameters.
    assert 0 < result["shared"]["parameters"] < result["resident"]
    memory = [c for c in result["checks"] if "memory" in c["what"]]
    assert len(memory) == 3 and all(check["held"] for check in memory)
    text = (tmp_path / "boundaries.md").read_text()
    assert "K-pass limit" in text and "## What should hold" in text
    assert "heads' limit | K-pass limit |" in text
    assert "| ssd | features: time to 1.05 heads' limit |" in text
