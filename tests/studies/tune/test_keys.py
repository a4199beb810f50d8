"""Which loss_weight keys weigh which term, and the config that they are written to."""

from pathlib import Path

import pytest
from helpers.mmdet_toy import toy_config, write_data
from mmengine.config import Config

from lossweave.errors import LossweaveError
from lossweave.studies.tune.child import child_settings
from lossweave.studies.tune.in_mmdet import find_keys, write_child
from lossweave.studies.tune.keys import Response, keys_of_terms
from lossweave.studies.tune.space import Point

POINT = Point((1.0,), (1.5, 0.5), 0.004)
LOSSES = {"loss_cls": 1.0, "loss_box": 1.0}
TERMS = {"cls": ["loss_cls"], "loc": ["loss_box"]}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("keys"))


def _config(detector: str, data: Path, folder: Path, **options: object) -> str:
    cfg = toy_config(detector, data, folder, **options)  # type: ignore[arg-type]
    cfg.pop("work_dir")
    cfg.dump(folder / "toy.py")
    return str(folder / "toy.py")


def test_a_two_stage_detector_has_two_keys_a_term(data: Path, tmp_path: Path) -> None:
    config = _config("faster_rcnn", data, tmp_path, model__roi_head__bbox_head__loss_bbox=dict(
        type="L1Loss", loss_weight=3.0))  # fmt: skip
    keys = find_keys(config)
    rpn, roi = "model.rpn_head", "model.roi_head.bbox_head"
    assert keys.terms == {
        "cls": (f"{rpn}.loss_cls.loss_weight", f"{roi}.loss_cls.loss_weight"),
        "loc": (f"{rpn}.loss_bbox.loss_weight", f"{roi}.loss_bbox.loss_weight"),
    }
    assert keys.complete and keys.values[f"{roi}.loss_bbox.loss_weight"] == 3.0
    stock = child_settings(keys, ["cls", "loc"], POINT, "auto")
    child = write_child(tmp_path, config, ["train_cfg.max_iters=9"], POINT, stock)
    found = Config.fromfile(child)
    assert found.model.rpn_head.loss_cls.loss_weight == 1.5
    assert found.model.roi_head.bbox_head.loss_bbox.loss_weight == 1.5  # 3 x 0.5
    assert found.optim_wrapper.optimizer.lr == 0.004 and found.train_cfg.max_iters == 9
    assert found.model.type == "FasterRCNN"
    assert child.read_text().count("\n") < 10  # no copy of the config


def test_a_detector_without_keys_is_weighed_by_the_combiner(data: Path, tmp_path: Path) -> None:
    config = _config("ssd", data, tmp_path)
    keys = find_keys(config)
    assert keys.problems["cls"] == "loss_cls has no loss_weight key" and not keys.complete
    with pytest.raises(LossweaveError, match="--into stock: the term 'cls' cannot be") as refused:
        child_settings(keys, ["cls", "loc"], POINT, "stock")
    assert "\n" not in str(refused.value)
    assert child_settings(keys, ["cls", "loc"], POINT, "auto") is None
    found = Config.fromfile(write_child(tmp_path, config, [], POINT, None))
    assert found.model.type == "lossweave.CombinedLossDetector"
    assert found.model.combiner == dict(type="Sum", weights=[1.5, 0.5])
    assert found.default_hooks.lossweave.type == "lossweave.CombinerHook"


def test_a_combined_config_keeps_its_combiner_and_loses_its_weights(
    data: Path, tmp_path: Path
) -> None:
    combiner = dict(type="Sum", weights=[7, 1])
    config = _config("retinanet", data, tmp_path, combiner=combiner)
    keys = find_keys(config)
    stock = child_settings(keys, ["cls", "loc"], POINT, "auto")
    found = Config.fromfile(write_child(tmp_path, config, [], POINT, stock))
    assert found.model.combiner == dict(type="Sum")
    assert found.model.bbox_head.loss_bbox.loss_weight == 0.5
    found = Config.fromfile(write_child(tmp_path, config, [], POINT, None))
    assert found.model.combiner == dict(type="Sum", weights=[1.5, 0.5])
    assert found.model.bbox_head.loss_bbox.loss_weight == 1.0


@pytest.mark.parametrize(
    ("responses", "problem"),
    [
        ([Response("a", 1.0, {"loss_cls": 2.0, "loss_box": 2.0})], "loss_cls has no"),  # both
        ([Response("a", 1.0, {"loss_cls": 1.7, "loss_box": 1.0})], "loss_cls has no"),  # half
        ([], "loss_cls has no loss_weight key"),
    ],
)
def test_keys_that_do_something_else_are_left(responses: list[Response], problem: str) -> None:
    keys = keys_of_terms(TERMS, responses, LOSSES)
    assert problem in keys.problems["cls"] and keys.terms["cls"] == ()


def test_a_loss_is_weighed_once() -> None:
    both = {"loss_cls": 2.0, "loss_box": 1.0}
    keys = keys_of_terms(TERMS, [Response("a", 1.0, both), Response("b", 1.0, both)], LOSSES)
    assert keys.terms["cls"] == ("a",)
    keys = keys_of_terms(TERMS, [Response("a", 1.0, both)], {**LOSSES, "loss_box": 0.0})
    assert keys.problems == {"loc": "loss_box is zero in the first batch"}
