"""The whole benchmark on a shrunk detector."""

import json
from pathlib import Path

import pytest

from lossweave import LossweaveError
from lossweave.combiners import combiner_names
from lossweave.studies.benchmark.detectors import CONTROL
from lossweave.studies.benchmark.findings import Benchmark
from lossweave.studies.benchmark.study import run_benchmark, value_combiners
from lossweave.studies.short_runs.findings import gradient_combiners


def test_benchmark(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = Benchmark(
        ("retinanet",),
        ("Sum", "FAMO"),
        rounds=2,
        repeats=10,
        batch_size=1,
        device="cpu",
        work_dir=str(tmp_path),
    )
    (result,) = run_benchmark(asked)
    assert list(result.costs) == [CONTROL, "Sum", "FAMO"]
    assert all(cost.added_syncs == 0 for cost in result.costs.values())
    assert result.costs["FAMO"].own.difference > 0
    assert 0 < result.hook_seconds < result.step_seconds
    content = json.loads((tmp_path / "benchmark.json").read_text())
    assert len(content["results"][0]["costs"]["Sum"]["step"]["a"]) == 2
    text = (tmp_path / "benchmark.md").read_text()
    assert "| FAMO |" in text and "stock (control)" in text
    assert "FAMO" in capsys.readouterr().out


def test_wrong_names() -> None:
    with pytest.raises(LossweaveError, match="detector 'yolo'"):
        run_benchmark(Benchmark(("yolo",)))
    with pytest.raises(LossweaveError, match="unknown combiner 'Sun'"):
        run_benchmark(Benchmark(combiners=("Sun",)))


def test_what_needs_gradients_is_left_out() -> None:
    assert {"Sum", "FAMO", "Alternating"} <= set(value_combiners())
    assert set(combiner_names()) - set(value_combiners()) == set(gradient_combiners())
