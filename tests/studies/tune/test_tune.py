"""A small search from the command line to its report, and its config without lossweave."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mmdet
import pytest
import torch
from helpers.mmdet_toy import evaluation_dataset, toy_config, write_data
from mmengine.config import Config

from lossweave.cli import main
from lossweave.errors import LossweaveError
from lossweave.studies.ledger.ledger import read
from lossweave.studies.results.remake import remake
from lossweave.studies.tune import cli, confirm, in_mmdet, trainings
from lossweave.studies.tune.in_mmdet import setting_of


def _in_this_process(words: Sequence[str], log: Path, jobs: int = 1) -> None:
    getattr(main, "train" if words[0] == "tools/train.py" else "test")(list(words[1:]))


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stock detector, five iterations long, on a data set of a dozen pictures."""
    home = tmp_path_factory.mktemp("tune")
    data = write_data(home / "data")
    cfg = toy_config("retinanet", data, home, iterations=4, seeded=False)
    dataset = evaluation_dataset(cfg)
    cfg.val_cfg, cfg.test_cfg = dict(type="ValLoop"), dict(type="TestLoop")
    sampler = dict(type="DefaultSampler", shuffle=False)
    annotations = str(data / "annotations.json")
    for split in ("val", "test"):
        cfg[f"{split}_dataloader"] = dict(
            batch_size=4, num_workers=0, dataset=dataset, sampler=sampler
        )
        cfg[f"{split}_evaluator"] = dict(type="CocoMetric", ann_file=annotations, metric="bbox")
    cfg.model.test_cfg.score_thr = 0.0
    cfg.pop("work_dir")
    cfg.dump(home / "toy.py")
    return home / "toy.py"


@pytest.fixture(scope="module")
def tuned(config: Path) -> Path:
    """The folder of a search that has been run."""
    home = config.parent / "work"
    with pytest.MonkeyPatch.context() as patch:
        for module in (trainings, confirm, in_mmdet):
            patch.setattr(module, "call", _in_this_process)
        cli.tune([str(config), "--budget", "2", "--rungs", "0.5", "--confirm", "1",
                  "--sampler", "random", "--work-dir", str(home)])  # fmt: skip
    return home


def test_it_ends_in_a_config_a_report_and_a_ledger(config: Path, tuned: Path) -> None:
    base, found = Config.fromfile(config), Config.fromfile(tuned / "tuned.py")
    record = json.loads((tuned / "tune.json").read_text())
    weights = record["search"]["weights"]
    assert sum(weights) == pytest.approx(2.0, rel=1e-5)
    assert found.model.bbox_head.loss_cls.loss_weight == pytest.approx(weights[0], rel=1e-5)
    assert found.model.bbox_head.loss_bbox.loss_weight == pytest.approx(weights[1], rel=1e-5)
    assert found.optim_wrapper.optimizer.lr == record["search"]["rate"]
    assert found.model.type == base.model.type == "RetinaNet"
    text = (tuned / "tune.md").read_text()
    assert "tuned minus untuned is" in text and "## What was spent" in text
    for name in ("search.png", "front.png"):
        assert (tuned / name).stat().st_size > 5000
    rungs = [r for r in read(tuned / "ledger.jsonl").results if r.method.startswith("Sum ")]
    assert {r.budget["rung"] for r in rungs} == {2, 4} and len(rungs) >= 3
    assert all(len(r.details["left_out"]["ap"]) == 10 for r in rungs)


def test_the_report_of_the_ledger_alone_has_the_same_bytes(tuned: Path, tmp_path: Path) -> None:
    remake([tuned / "ledger.jsonl"], tmp_path)
    for name in ("tune.md", "tune.json", "search.png", "front.png"):
        assert (tmp_path / name).read_bytes() == (tuned / name).read_bytes(), name


def test_the_tuned_config_trains_without_lossweave(tuned: Path, tmp_path: Path) -> None:
    """By the stock tool, in a process where lossweave cannot be imported."""
    tool = Path(mmdet.__file__).parent / ".mim" / "tools" / "train.py"
    assert tool.is_file()
    (tmp_path / "run.py").write_text(
        "import runpy, sys\n"
        "sys.modules['lossweave'] = None\n"
        f"sys.argv = ['train.py', {str(tuned / 'tuned.py')!r}, '--work-dir', {str(tmp_path)!r}]\n"
        f"runpy.run_path({str(tool)!r}, run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, str(tmp_path / "run.py")], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr[-2000:]
    state = torch.load(tmp_path / "iter_4.pth", weights_only=False)
    assert not any("lossweave" in str(key) for key in state["message_hub"])


def test_it_is_not_begun_anew_and_goes_on(config: Path, tuned: Path) -> None:
    before = (tuned / "ledger.jsonl").read_bytes()
    words = [str(config), "--budget", "2", "--rungs", "0.5", "--sampler", "random",
             "--confirm", "1", "--work-dir", str(tuned)]  # fmt: skip
    with pytest.raises(LossweaveError, match="--resume goes on"):
        cli.tune(words)
    cli.tune([*words, "--resume"])  # everything is there: nothing is trained
    assert (tuned / "ledger.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("cfg.val_dataloader = cfg.val_evaluator = cfg.val_cfg = None", "has no validation set"),
        ("cfg.val_evaluator.type = 'VOCMetric'", "val_evaluator is VOCMetric; a CocoMetric"),
        ("cfg.val_evaluator.ann_file = 'none.json'", "no validation annotations 'none.json'"),
        ("cfg.train_cfg = dict(by_epoch=False)", "neither max_iters nor max_epochs"),
        ("cfg.optim_wrapper.optimizer.pop('lr')", "has no optim_wrapper.optimizer.lr"),
    ],
)
def test_configs_that_cannot_be_searched(
    config: Path, tmp_path: Path, change: str, message: str
) -> None:
    cfg = Config.fromfile(config)
    exec(change, {"cfg": cfg})
    cfg.dump(tmp_path / "toy.py")
    with pytest.raises(LossweaveError, match=message) as refused:
        setting_of(str(tmp_path / "toy.py"))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--budget", "1"], "below 2 full trainings"),
        (["--prefer", "speed"], "invalid choice: 'speed'"),
        (["--search", "weights,momentum"], "should be weights, lr or weights,lr"),
        (["--octaves", "0"], "not above 0"),
        (["--rates", "1", "2"], "the config's own, 0, should lie between"),
        (["--rungs", "1.5"], "no part of a training"),
        (["--start", "1", "2", "3"], "3 weights for the terms cls, loc"),
        (["--start", "1", "-2"], "a number above 0 for each of cls, loc"),
        (["--diagnosis", "none.json"], "no static_weights of cls, loc"),
        (["--join"], "with --resume"),
        (["--confirm", "-1"], "at least 0"),
    ],
)
def test_wrong_words(config: Path, tmp_path: Path, words: list[str], message: str) -> None:
    with pytest.raises(LossweaveError, match=message) as refused:
        cli.tune([str(config), "--work-dir", str(tmp_path / "work"), *words])
    assert "\n" not in str(refused.value) and not (tmp_path / "work" / "points").exists()


def test_static_weights_of_a_diagnosis(config: Path, tmp_path: Path) -> None:
    (tmp_path / "diagnosis.json").write_text(json.dumps({"static_weights": {"loc": 2, "cls": 0.5}}))
    args: Any = cli._parser().parse_args(
        [str(config), "--diagnosis", str(tmp_path / "diagnosis.json")]
    )
    assert cli._start(args, ("cls", "loc")) == (0.5, 2.0)
