"""Short trainings: what is kept, and the exit status."""

import json

import pytest

from lossweave.combiners import GradientCombiner, register_combiner
from lossweave.combiners.registry import _COMBINERS
from lossweave.demo import make_demo_data
from lossweave.errors import LossweaveError
from lossweave.studies.ledger.ledger import read
from lossweave.studies.results.remake import remake
from lossweave.studies.short_runs.cli import short_runs
from lossweave.studies.short_runs.findings import (
    CONFIGS,
    ShortRuns,
)
from lossweave.studies.short_runs.study import run_short_runs


@pytest.mark.parametrize(
    ("short", "message"),
    [
        (ShortRuns(("Sume",)), "did you mean 'Sum'"),
        (ShortRuns(detectors=("yolo",)), "'yolo' should be one of"),
        (ShortRuns(iterations=4), "should be at least 5"),
        (ShortRuns(combiners=()), "at least one combiner"),
        (ShortRuns(batch_size=0), "batch_size=0"),
        (ShortRuns(("Sum", "MGDA"), ("ssd",), boundary="nek"),
         "^boundary: no module matches 'nek'; did you mean 'neck'"),
    ],
)  # fmt: skip
def test_wrong_input(short, message, tmp_path) -> None:
    with pytest.raises(LossweaveError, match=message):
        run_short_runs(short)


@pytest.fixture
def failing():
    @register_combiner
    class Failing(GradientCombiner):
        """Refuses the third iteration."""

        def weigh(self, gramian, terms):
            if self.progress.iteration == 2:
                raise RuntimeError("no weights today")
            return gramian.new_ones(len(terms))

    yield "Failing"
    del _COMBINERS["Failing"]


def test_trainings(tmp_path, monkeypatch, capsys, failing) -> None:
    monkeypatch.chdir(tmp_path)
    make_demo_data(tmp_path / "data/lossweave_demo", train=8, val=2, test=2)
    words = ["--combiners", "MGDA", failing, "--detectors", "ssd", "--iterations", "5",
             "--batch-size", "1"]  # fmt: skip
    with pytest.raises(SystemExit) as stopped:
        short_runs(words)
    assert stopped.value.code == 1
    folder = tmp_path / "work_dirs/short_runs"
    good, bad = json.loads((folder / "short_runs.json").read_text())["runs"]
    assert good["finite"] and set(good["terms"]) == {"cls", "loc"}
    assert all(len(values) == 5 for values in good["terms"].values())
    assert "no weights today" in bad["error"] and len(bad["terms"]["cls"]) == 2
    assert "no weights today" in (folder / "ssd" / failing / "error.txt").read_text()
    for name in ("short_runs.md", "short_runs.png"):
        assert (folder / name).stat().st_size > 500
    # What ran to its end is in the ledger, and the ledger alone makes the report of it.
    (result,) = read(folder / "ledger.jsonl").results
    assert (result.method, result.budget["iterations"]) == ("MGDA", 5) and result.config_hash
    remake([folder / "ledger.jsonl"], tmp_path / "again")
    (again,) = json.loads((tmp_path / "again" / "short_runs.json").read_text())["runs"]
    assert again == good
    # What is finished is kept, also with other combiners beside it; other settings are refused.
    log = next((folder / "ssd/MGDA").glob("*/*.log"))
    words[1:3] = ["MGDA"]
    try:
        short_runs(words)
    except SystemExit:  # five iterations need not fall
        assert not good["good"]
    assert log.is_file()
    with pytest.raises(LossweaveError, match="other settings"):
        short_runs([*words, "--seed", "1"])
    assert set(CONFIGS) == {"ssd", "retinanet", "faster_rcnn"}
