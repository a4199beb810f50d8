"""The demo from end to end, small."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from lossweave import LossweaveError
from lossweave.demo import make_demo_data
from lossweave.host.options import TrainOptions
from lossweave.mmdet import commands
from lossweave.studies.demo import study as module
from lossweave.studies.demo.study import Demo, run_demo


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("digits") / "data"
    make_demo_data(root, train=16, val=4, test=2, progress=False)
    return root


@pytest.fixture(scope="module")
def small(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Demo:
    folder = tmp_path_factory.mktemp("demo")
    return Demo(iterations=3, data_root=str(data), work_dir=str(folder / "work"), seed=3)


def test_whole_demo(small: Demo, capsys: pytest.CaptureFixture[str]) -> None:
    runs = run_demo(small)
    assert [run.combiner for run in runs] == ["Sum", "UncertaintyWeighting"]
    for run in runs:
        assert run.iterations == 3 and list(run.terms) == ["cls", "loc"]
        assert run.seconds_per_iteration > 0
    assert set(runs[0].terms["cls"].weight.values) == {1.0}
    assert 0 < runs[1].terms["cls"].weight.last < 1
    out = capsys.readouterr().out
    assert "s / iteration" in out and "report.md" in out
    folder = Path(small.work_dir)
    for name in ("terms.png", "weights.png", "sheet.png"):
        assert Image.open(folder / name).size[0] > 300
    content = json.loads((folder / "record.json").read_text())
    assert content["seed"] == 3 and content["machine"]["cores"] >= 1
    assert [run["combiner"] for run in content["runs"]] == ["Sum", "UncertaintyWeighting"]
    assert list(folder.glob("*/*/vis_data/events.out.tfevents.*")), "no TensorBoard logs"
    assert "cannot rank the combiners" in (folder / "report.md").read_text()

    # again: kept as it is, and only the comparison is written anew
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*/*.pth")}
    again = run_demo(small)
    assert capsys.readouterr().out.count("finished already, kept") == 2
    assert again == runs
    assert before == {path: path.stat().st_mtime_ns for path in folder.glob("*/*.pth")}

    # other settings in the same place
    with pytest.raises(LossweaveError, match="other settings; start anew with --fresh"):
        run_demo(replace(small, seed=4))


def test_an_interrupted_training_goes_on(
    small: Demo, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = replace(small, combiners=("DWA",), work_dir=small.work_dir + "_stopped")
    whole = commands.train
    calls: list[TrainOptions] = []

    def stopping(options: TrainOptions) -> object:
        calls.append(options)
        if len(calls) == 1:
            whole(options)
            Path(small.work_dir, "DWA", "val.bbox.json").unlink()
            raise KeyboardInterrupt
        return whole(options)

    monkeypatch.setattr(module.commands, "train", stopping)
    with pytest.raises(KeyboardInterrupt):
        run_demo(small)
    assert "goes on from here" in capsys.readouterr().err
    (run,) = run_demo(small)
    assert calls[1].resume == "auto" and calls[0].resume is None
    assert run.iterations == 3
    assert Path(small.work_dir, "DWA", "val.bbox.json").is_file()


def test_a_folder_of_someone_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "Sum").mkdir()
    (tmp_path / "Sum" / "precious.txt").write_text("mine")
    with pytest.raises(LossweaveError, match="not made by the demo"):
        run_demo(Demo(work_dir=str(tmp_path), fresh=True))
    assert (tmp_path / "Sum" / "precious.txt").is_file()
