"""Short trainings: what counts as finite and falling, what is kept, and the exit status."""

import json

import pytest
from helpers.combiner_cases import registered_gradient
from helpers.synthetic_runs import training_row, write_scalars

from lossweave.combiners import GradientCombiner, combiner_class, register_combiner
from lossweave.combiners.registry import _COMBINERS
from lossweave.demo import make_demo_data
from lossweave.errors import LossweaveError
from lossweave.studies.options import short_runs
from lossweave.studies.short_runs.study import (
    CONFIGS,
    ShortRun,
    ShortRuns,
    gradient_combiners,
    judged,
    run_short_runs,
    summary,
)


def test_all_gradient_combiners_are_trained() -> None:
    names = gradient_combiners()
    assert sorted(names) == sorted(registered_gradient()) and names
    assert all(issubclass(combiner_class(name), GradientCombiner) for name in names)


def test_means_and_falls() -> None:
    run = ShortRun("ssd", "Sum", {"cls": [9.0, 7.0, *[5.0] * 6, 2.0, 4.0],
                                  "loc": [1.0, 1.0, *[5.0] * 6, 2.0, 2.0]}, True, 1.0)  # fmt: skip
    assert run.means("cls") == (8.0, 3.0) and run.total == (9.0, 5.0)
    assert run.fell and run.good and run.rose == ["loc"]
    rising = ShortRun("ssd", "Sum", {"cls": [1.0] * 5 + [1.1] * 5}, True, 1.0)
    assert not rising.fell and not rising.good
    level = ShortRun("ssd", "Sum", {"cls": [1.0] * 10}, True, 1.0)
    assert not level.fell and level.rose == ["cls"]


def test_a_nan_is_found(tmp_path) -> None:
    rows = [training_row(step, cls=10.0 - step) for step in range(1, 6)]
    write_scalars(tmp_path / "good", "1", rows)
    assert judged(tmp_path / "good", "ssd", "DWA", True, 1.0).good
    assert not judged(tmp_path / "good", "ssd", "DWA", False, 1.0).good  # of the weights
    rows[2] = training_row(3, cls=float("nan"))
    write_scalars(tmp_path / "bad", "1", rows)
    run = judged(tmp_path / "bad", "ssd", "DWA", True, 1.0)
    assert not run.finite and not run.good
    assert judged(tmp_path / "none", "ssd", "DWA", True, 1.0).error
    header, table = summary([run])
    assert table[0][header.index("finite")] == "NO"


@pytest.mark.parametrize(
    ("short", "message"),
    [
        (ShortRuns(("Sume",)), "did you mean 'Sum'"),
        (ShortRuns(detectors=("yolo",)), "'yolo' should be one of"),
        (ShortRuns(iterations=4), "should be at least 5"),
        (ShortRuns(combiners=()), "at least one combiner"),
        (ShortRuns(batch_size=0), "batch_size=0"),
    ],
)
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
