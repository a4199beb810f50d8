"""A yaml config trains in stages as the LazyConfig does that says the same."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.config import instantiate
from detectron2.solver import build_optimizer
from helpers.detectron2_staged_toy import LAZY
from helpers.detectron2_toy import DATA, toy_cfg
from helpers.mmdet_support import assert_same

from lossweave.cli import main
from lossweave.detectron2.config_node import new_node
from lossweave.detectron2.configs import check_config, load_config
from lossweave.detectron2.staged.configs import has_schedule, plan_of
from lossweave.detectron2.staged.network import check_detector
from lossweave.detectron2.staged.yaml import lazy_of
from lossweave.errors import LossweaveError
from lossweave.studies.alternating_vs_joint.configs import read_staged

BUDGET = {"iterations": 3, "batch_size": 2, "lr": 0.01, "drops": [2], "warmup": 1}
SCHEDULE = {"type": "four_step", "rpn": BUDGET, "rcnn": BUDGET, "joint": BUDGET}


def _yaml(path: Path, **changes: Any) -> str:
    """The yaml config that says what the toy's LazyConfig does."""
    cfg = toy_cfg("faster_rcnn", path.parent / "output", **{
        "MODEL__ROI_HEADS__SCORE_THRESH_TEST": 0.0, "SOLVER__BASE_LR": 0.1,
        "SOLVER__MOMENTUM": 0.9, "SOLVER__WEIGHT_DECAY": 0.01, "SOLVER__IMS_PER_BATCH": 4,
        "SOLVER__CHECKPOINT_PERIOD": 2, "DATALOADER__ASPECT_RATIO_GROUPING": False,
        **changes,
    })  # fmt: skip
    cfg.LOSSWEAVE.SCHEDULE = new_node(SCHEDULE)
    cfg.LOSSWEAVE.PROPOSALS = new_node({"max_per_img": 60, "min_bbox_size": 4, "batch_size": 4})
    cfg.LOSSWEAVE.EVALUATION = new_node({"recall": [10, 100], "stages": False})
    path.write_text(cfg.dump())
    return str(path)


def _lazy(path: Path) -> str:
    """The toy's LazyConfig, with a yaml config's size of pictures and decay of norms' weights."""
    resize = "L(T.ResizeShortestEdge)(short_edge_length=[64], max_size={}, sample_style='choice')"
    text = LAZY.replace("L(T.Resize)(shape=(80, 96))", resize.format(1333))
    text = text.replace("augmentations=[],", f"augmentations=[{resize.format(1333)}],")
    text = text.replace("optimizer_params)()", "optimizer_params)(weight_decay_norm=0.0)")
    path.write_text(text.replace("recall=[10, 100]", "recall=[10, 100], stages=False"))
    return str(path)


def _weights(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["model"]


@pytest.mark.parametrize("more", [[], ["--combiner", "UncertaintyWeighting"]])
def test_it_trains_as_a_lazy_config_does(more: list[str], data: Path, tmp_path: Path) -> None:
    logging.getLogger("detectron2").setLevel(logging.WARNING)
    configs = {"yaml": _yaml(tmp_path / "toy.yaml"), "lazy": _lazy(tmp_path / "toy.py")}
    records = {
        name: main.train([config, "--work-dir", str(tmp_path / name), *more])
        for name, config in configs.items()
    }
    yaml, lazy = (_weights(tmp_path / name / "unified.pth") for name in ("yaml", "lazy"))
    assert_same(yaml, lazy)
    assert records["yaml"].unified.metrics == records["lazy"].unified.metrics
    # The ordinary tool on the same file: the detector of the record, with its metrics.
    checkpoint = str(tmp_path / "yaml/unified.pth")
    found = main.test([configs["yaml"], checkpoint, "--work-dir", str(tmp_path / "test")])["bbox"]
    assert found["AP"] / 100 == records["yaml"].unified.metrics["AP"]
    # Gone on with where nothing is left to do.
    again = main.train([configs["yaml"], "--work-dir", str(tmp_path / "yaml"), "--resume", *more])
    assert again.finished


def test_a_budget_is_an_option_like_any_other(data: Path, tmp_path: Path) -> None:
    cfg = load_config(_yaml(tmp_path / "toy.yaml"), ["LOSSWEAVE.SCHEDULE.rpn.iterations=7"])
    assert has_schedule(cfg) and not has_schedule(load_config("COCO-Detection/fcos_R_50_FPN_1x.py"))
    assert plan_of(lazy_of(cfg)).schedule["rpn1"].budget.iterations == 7


def test_the_optimizer_is_the_solvers(data: Path, tmp_path: Path) -> None:
    config = _yaml(tmp_path / "toy.yaml", **{
        "SOLVER__BIAS_LR_FACTOR": 2.0, "SOLVER__WEIGHT_DECAY_NORM": 0.5, "SOLVER__NESTEROV": True,
        "SOLVER__CLIP_GRADIENTS__ENABLED": True, "SOLVER__CLIP_GRADIENTS__CLIP_VALUE": 1e-3,
    })  # fmt: skip
    cfg = load_config(config)
    lazy = lazy_of(cfg)
    model = instantiate(lazy.model)
    lazy.optimizer.params.model = model
    ours, stock = instantiate(lazy.optimizer), build_optimizer(cfg, model)
    for group, theirs in zip(ours.param_groups, stock.param_groups, strict=True):
        assert all(a is b for a, b in zip(group["params"], theirs["params"], strict=True))
        for name in ("lr", "momentum", "weight_decay", "nesterov"):
            assert group[name] == theirs[name], name
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 1e3)
    before = parameter.detach().clone()
    ours.step()
    assert 0 < (parameter - before).abs().max() < 0.1  # without clipping it moves by 100
    lazy.optimizer.lr = 0.5  # as a stage's budget has it
    rates = {group["lr"] for group in instantiate(lazy.optimizer).param_groups}
    assert rates == {0.5, 1.0}


def test_the_config_for_coco() -> None:
    config = "lossweave::detectron2/alternating/faster_rcnn_R_50_FPN_coco.yaml"
    cfg = load_config(config)
    check_config(cfg)
    lazy = lazy_of(cfg)
    found = [(stage.name, stage.budget.iterations) for stage in plan_of(lazy).schedule.stages]
    assert found == [(name, 51400) for name in ("rpn1", "rcnn1", "rpn2", "rcnn2")]
    joint = load_config("detectron2://COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml")
    assert cfg.LOSSWEAVE.SCHEDULE.joint.iterations == joint.SOLVER.MAX_ITER
    check_detector(instantiate(lazy.model))
    with pytest.raises(LossweaveError, match="this study takes a LazyConfig"):
        read_staged(config)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (f"DATASETS.TEST=('{DATA}','{DATA}')", r"DATASETS.TEST=.* should be one data set"),
        ("DATALOADER.SAMPLER_TRAIN=RepeatFactorTrainingSampler", "SAMPLER_TRAIN=.* should be"),
        ("SOLVER.REFERENCE_WORLD_SIZE=8", "SOLVER.REFERENCE_WORLD_SIZE=8 should be 0"),
        ("LOSSWEAVE.SCHEDULE.rpn.lr=fast", r"\(0.01 vs. fast\) for config key: .*rpn.lr"),
        ("LOSSWEAVE.SCHEDULE.rpn.lr=-1.0", r"schedule.rpn.lr=-1.0 should be"),
        ("LOSSWEAVE.PROPOSALS.max_per_img=0", "proposals.max_per_img=0 should be"),
        ("LOSSWEAVE.SCHEDULE.rpm.iterations=3", "rpm"),
        ("LOSSWEAVE.SCHEDULE=3", "LOSSWEAVE.SCHEDULE"),
        ("MODEL.META_ARCHITECTURE=RetinaNet", "RetinaNet"),
    ],
)
def test_wrong_values_end_in_one_line(
    option: str, message: str, data: Path, tmp_path: Path
) -> None:
    work_dir = tmp_path / "run"
    words = [_yaml(tmp_path / "toy.yaml"), "--work-dir", str(work_dir), "--cfg-options", option]
    with pytest.raises(LossweaveError, match=message) as error:
        main.train(words)
    assert "\n" not in str(error.value) and not list(work_dir.rglob("*.pth"))
