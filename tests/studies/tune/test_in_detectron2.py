"""Searches of Detectron2's configs: trained in rungs, weighed by stock keys, read by the stock."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("detectron2")

from detectron2.config import LazyConfig, get_cfg
from helpers.detectron2_lazy import write_lazy, write_yaml
from helpers.detectron2_toy import DATA, register_data
from helpers.mmdet_support import assert_same
from helpers.mmdet_toy import write_data

from lossweave.cli import main
from lossweave.detectron2.configs import load_config
from lossweave.errors import LossweaveError
from lossweave.studies.ledger.ledger import read
from lossweave.studies.tune import cli, confirm, trainings
from lossweave.studies.tune.child import child_settings
from lossweave.studies.tune.in_detectron2 import find_keys, setting_of, write_child
from lossweave.studies.tune.space import Point

POINT = Point((1.0,), (1.5, 0.5), 0.004)
TERMS = ["cls", "loc"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("tune")
    register_data(write_data(home / "data"))
    return home


@pytest.fixture(scope="module")
def yaml(home: Path) -> str:
    return write_yaml(home)


@pytest.fixture(scope="module")
def lazy(home: Path) -> str:
    return write_lazy(home)


def test_a_training_that_ends_at_a_rung_goes_on_exactly(lazy: str, tmp_path: Path) -> None:
    def train(folder: str, *more: str) -> Any:
        words = [lazy, "--exact-resume", "--work-dir", str(tmp_path / folder)]
        return main.train([*words, *more])

    whole = train("whole")
    train("broken", "--cfg-options", "train.rungs=[2]")
    found = [tmp_path / "broken" / f"rung_{rung}.bbox.json" for rung in (2, 4)]
    assert found[0].read_bytes() != b"[]" and not found[1].exists()
    resumed = train("broken", "--resume", "--cfg-options", "train.rungs=[2,4]")
    assert resumed.start_iter == 2
    assert_same(whole.model.state_dict(), resumed.model.state_dict())
    ended = found[1].read_bytes()
    found[1].unlink()  # as of a training that was stopped while its last rung was evaluated
    train("broken", "--resume", "--cfg-options", "train.rungs=[2,4]")
    assert found[1].read_bytes() == ended


def test_a_search_from_its_words_to_its_report(
    yaml: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def here(words: Sequence[str], log: Path, jobs: int = 1) -> None:
        main.train(list(words[1:]))  # in this process, which has registered the data

    for module in (trainings, confirm):
        monkeypatch.setattr(module, "call", here)
    words = [yaml, "--budget", "2", "--rungs", "0.5", "--confirm", "1", "--sampler", "random",
             "--work-dir", str(tmp_path)]  # fmt: skip
    cli.tune(words)
    record = json.loads((tmp_path / "tune.json").read_text())
    cls, loc = record["search"]["weights"]
    stock = get_cfg()
    stock.merge_from_file(str(tmp_path / "tuned.yaml"))
    for node in (stock.MODEL.RPN, stock.MODEL.ROI_BOX_HEAD):
        assert pytest.approx(loc / cls, rel=1e-4) == node.BBOX_REG_LOSS_WEIGHT
    assert pytest.approx(record["search"]["rate"] * cls, rel=1e-4) == stock.SOLVER.BASE_LR
    assert "tuned minus untuned is" in (tmp_path / "tune.md").read_text()
    ledger = read(tmp_path / "ledger.jsonl").results
    rungs = [r for r in ledger if r.method.startswith("Sum ")]
    assert {r.budget["rung"] for r in rungs} == {2, 4} and len(rungs) >= 3
    assert all(len(r.details["left_out"]["ap"]) == 10 for r in rungs)
    # The first point was stopped at its rung and gone on with: to the bits of the plain training.
    (first,) = (tmp_path / "points").glob("Sum-weights-1-1_*")
    words = [yaml, "--exact-resume", "--work-dir", str(tmp_path / "plain")]
    plain = main.train([*words, "--cfg-options", "SEED=0", "DATASETS.TEST=()"])
    ended: Any = torch.load(first / "model_final.pth", weights_only=False)
    assert_same(plain.model.state_dict(), ended["model"])


def test_tuned_configs_are_read_without_lossweave(
    yaml: str, lazy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for config, options in ((yaml, ["SOLVER.MAX_ITER=9"]), (lazy, ["train.max_iter=9"])):
        stock = child_settings(find_keys(config, options), TERMS, POINT, "stock")
        write_child(tmp_path, config, options, POINT, stock, ["What it is."])
    assert len((tmp_path / "tuned.yaml").read_text().splitlines()) < 20  # no copy of the config
    monkeypatch.setitem(sys.modules, "lossweave", None)  # from here on it cannot be imported
    cfg = get_cfg()
    cfg.merge_from_file(str(tmp_path / "tuned.yaml"))
    assert cfg.MODEL.META_ARCHITECTURE == "GeneralizedRCNN" and cfg.SOLVER.MAX_ITER == 9
    # 1.5 : 0.5, where cls has no key; its 1.5 is in the rate and out of the decay.
    assert (cfg.MODEL.RPN.LOSS_WEIGHT, cfg.MODEL.RPN.BBOX_REG_LOSS_WEIGHT) == (1.0, 0.333333)
    assert cfg.MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_WEIGHT == 0.333333
    assert (cfg.SOLVER.BASE_LR, cfg.SOLVER.WEIGHT_DECAY) == (0.006, 6.66667e-05)
    made: Any = LazyConfig.load(str(tmp_path / "tuned.py"))
    assert made.train.max_iter == 9 and made.optimizer.lr == 0.004
    rpn, roi = made.model.proposal_generator, made.model.roi_heads.box_predictor
    assert rpn.loss_weight == {"loss_rpn_cls": 1.5, "loss_rpn_loc": 0.5}
    assert roi.loss_weight == {"loss_cls": 1.5, "loss_box_reg": 0.5}


def test_a_scaled_loss_is_the_same_training() -> None:
    """SGD with momentum: a factor of the loss, and the rate and the decay that take it up."""
    ends = []
    for factor, rate, decay in ((1.5, 0.02, 0.3), (1.0, 0.03, 0.2)):
        weight = torch.tensor([1.0, -2.0], dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.SGD([weight], lr=rate, momentum=0.9, weight_decay=decay)
        for _ in range(5):
            optimizer.zero_grad()
            (factor * (weight - 3).pow(4).sum()).backward()
            optimizer.step()
        ends.append(weight.detach())
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-10, atol=0)
    assert not torch.allclose(ends[0], torch.tensor([1.0, -2.0], dtype=torch.float64))


def test_a_config_that_clips_cannot_move_the_scale(yaml: str) -> None:
    keys = find_keys(yaml, ["SOLVER.CLIP_GRADIENTS.ENABLED=True"])
    assert keys.scaled is None and child_settings(keys, TERMS, POINT, "auto") is None


def test_terms_without_keys_are_weighed_by_the_combiner(home: Path, tmp_path: Path) -> None:
    config = write_yaml(tmp_path, "retinanet")
    keys = find_keys(config)
    assert set(keys.problems) == set(TERMS) and keys.scaled is None
    with pytest.raises(LossweaveError, match="--into stock: the term 'cls' cannot be") as refused:
        child_settings(keys, TERMS, POINT, "stock")
    assert "\n" not in str(refused.value)
    assert child_settings(keys, TERMS, POINT, "auto") is None
    found = load_config(str(write_child(tmp_path, config, [], POINT, None)))
    assert found.LOSSWEAVE.BASE_DETECTOR == "RetinaNet"
    assert found.LOSSWEAVE.COMBINER.ARGS.weights == [1.5, 0.5]


def test_a_lazy_config_is_weighed_by_the_combiner_where_it_is_asked_for(
    lazy: str, tmp_path: Path
) -> None:
    child = write_child(tmp_path, lazy, [], POINT, None)
    found = load_config(str(child))
    assert found.model.combiner == {"type": "Sum", "weights": [1.5, 0.5]}
    # A config that is combined already keeps its combiner, and loses its weights.
    folder = tmp_path / "again"
    folder.mkdir()
    stock = {"model.model.proposal_generator.loss_weight.loss_rpn_cls": 3.0}
    again = load_config(str(write_child(folder, str(child), [], POINT, stock)))
    assert again.model.combiner == {"type": "Sum"} and again.model.terms == "auto"
    assert again.model.model.proposal_generator.loss_weight == {"loss_rpn_cls": 3.0}


def test_configs_of_the_zoo(tmp_path: Path) -> None:
    yaml, lazy = (f"detectron2://COCO-Detection/{name}" for name in (
        "faster_rcnn_R_50_FPN_1x.yaml", "fcos_R_50_FPN_1x.py"))  # fmt: skip
    key = "MODEL.RPN.BBOX_REG_LOSS_WEIGHT"
    child = write_child(tmp_path, yaml, [], POINT, {key: 0.5})
    stock = get_cfg()
    stock.merge_from_file(str(child))  # whole: the stock tools know no base by such a name
    assert stock.MODEL.RPN.BBOX_REG_LOSS_WEIGHT == 0.5 and stock.SOLVER.MAX_ITER == 90000
    child = write_child(tmp_path, yaml, [], POINT, None)
    assert f"_BASE_: {yaml}" in child.read_text()
    assert load_config(str(child)).LOSSWEAVE.COMBINER.ARGS.weights == [1.5, 0.5]
    found = load_config(str(write_child(tmp_path, lazy, ["train.max_iter=7"], POINT, None)))
    assert (found.train.max_iter, found.optimizer.lr) == (7, 0.004)
    assert found.model.combiner.weights == [1.5, 0.5]


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("yaml", ["DATASETS.TEST=()"], r"has no validation set \(DATASETS.TEST\)"),
        ("yaml", [f"DATASETS.TEST=('{DATA}','{DATA}')"], "names 2 data sets; one chooses"),
        ("yaml", ["DATASETS.TEST=('none',)"], "there is no data set 'none'"),
        ("yaml", ["DATASETS.TEST=('voc_2007_val',)"], "the evaluator of voc_2007_val is pascal"),
        ("yaml", ["DATASETS.TEST=('coco_2017_val',)"], "no validation annotations .*val2017"),
        ("yaml", ["MODEL.META_ARCHITECTURE=CombinedLossDetector",
                  "LOSSWEAVE.BASE_DETECTOR=RetinaNet", "LOSSWEAVE.COMBINER.TYPE=DWA"],
         "its combiner is DWA; the weights of the Sum are tuned"),
        ("lazy", ["dataloader.evaluator._target_=my.Own"], "is Own; COCO's is needed"),
        ("lazy", ["dataloader.train._target_=my.loader"], "no counterpart of the training loader"),
    ],
)  # fmt: skip
def test_configs_that_cannot_be_searched(
    kind: str, options: list[str], message: str, request: pytest.FixtureRequest
) -> None:
    with pytest.raises(LossweaveError, match=message) as refused:
        setting_of(request.getfixturevalue(kind), options)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("dataloader.pop('evaluator')", r"has no validation set \(dataloader.evaluator\)"),
        ("dataloader['evaluator'] = []", r"has no validation set \(dataloader.evaluator\)"),
        ("optimizer.pop('lr')", "has no optimizer.lr"),
    ],
)
def test_lazy_configs_that_lack_something(
    home: Path, tmp_path: Path, line: str, message: str
) -> None:
    config = Path(write_lazy(tmp_path))
    config.write_text(f"{config.read_text()}{line}\n")
    with pytest.raises(LossweaveError, match=message) as refused:
        setting_of(str(config))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--budget", "1"], "below 2 full trainings"),
        (["--prefer", "speed"], "invalid choice: 'speed'"),
        (["--start", "1", "2", "3"], "3 weights for the terms cls, loc"),
    ],
)
def test_wrong_words(lazy: str, tmp_path: Path, words: list[str], message: str) -> None:
    with pytest.raises(LossweaveError, match=message) as refused:
        cli.tune([lazy, "--work-dir", str(tmp_path / "work"), *words])
    assert "\n" not in str(refused.value) and not (tmp_path / "work" / "points").exists()
