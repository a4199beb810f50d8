"""A small Faster R-CNN as Detectron2's LazyConfigs describe it, and the same in yaml."""

from pathlib import Path

from helpers.detectron2_toy import DATA, toy_cfg

#: Nothing of lossweave is named: without it, this can be read as it is.
LAZY = f"""\
import torch
from detectron2.config import LazyCall as L
from detectron2.data import (
    DatasetMapper, build_detection_test_loader, build_detection_train_loader,
    get_detection_dataset_dicts)
from detectron2.evaluation import COCOEvaluator
from detectron2.layers import ShapeSpec
from detectron2.model_zoo import get_config
from detectron2.modeling.backbone.fpn import FPN, LastLevelMaxPool
from detectron2.solver import get_default_optimizer_params
from fvcore.common.param_scheduler import CosineParamScheduler

train = get_config("common/train.py").train
train.max_iter, train.eval_period, train.seed, train.init_checkpoint = 4, 0, 0, ""
dataloader = dict(
    train=L(build_detection_train_loader)(
        dataset=L(get_detection_dataset_dicts)(names="{DATA}"),
        mapper=L(DatasetMapper)(is_train=True, augmentations=[], image_format="BGR"),
        total_batch_size=2, aspect_ratio_grouping=False, num_workers=0),
    test=L(build_detection_test_loader)(
        dataset=L(get_detection_dataset_dicts)(names="{DATA}", filter_empty=False),
        mapper=L(DatasetMapper)(is_train=False, augmentations=[], image_format="BGR"),
        num_workers=0),
    evaluator=L(COCOEvaluator)(dataset_name="{DATA}"))
optimizer = L(torch.optim.SGD)(params=L(get_default_optimizer_params)(), lr=0.01, momentum=0.9)
lr_multiplier = L(CosineParamScheduler)(start_value=1.0, end_value=0.01)

model = get_config("common/models/mask_rcnn_fpn.py").model
for name in [name for name in model.roi_heads if name.startswith("mask_")]:
    model.roi_heads.pop(name)
model.backbone = L(FPN)(
    bottom_up=L("helpers.detectron2_toy.Tiny")(), in_features=["res3", "res4", "res5"],
    out_channels=16, top_block=L(LastLevelMaxPool)())
rpn, heads = model.proposal_generator, model.roi_heads
rpn.in_features = ["p3", "p4", "p5", "p6"]
rpn.head.in_channels = 16
rpn.anchor_generator.sizes = [[16], [32], [64], [128]]
rpn.anchor_generator.strides = [8, 16, 32, 64]
rpn.pre_nms_topk = rpn.post_nms_topk = (50, 50)
heads.num_classes, heads.batch_size_per_image = 3, 16
heads.box_in_features = ["p3", "p4", "p5"]
heads.box_pooler.scales = (1 / 8, 1 / 16, 1 / 32)
heads.box_head.input_shape = ShapeSpec(channels=16, height=7, width=7)
heads.box_head.fc_dims = [32]
heads.box_predictor.input_shape = ShapeSpec(channels=32)
heads.box_predictor.test_score_thresh = 0.0
model = dict(model)
del rpn, heads, name
"""


def write_lazy(folder: Path) -> str:
    """The LazyConfig as a file; its path."""
    path = folder / "lazy_toy.py"
    path.write_text(LAZY)
    return str(path)


def write_yaml(folder: Path, detector: str = "faster_rcnn", **changes: object) -> str:
    """A yaml config as the stock tools read it; its path. Arguments as ``toy_cfg``."""
    changes = {"MODEL__ROI_HEADS__SCORE_THRESH_TEST": 0.0, **changes}
    cfg = toy_cfg(detector, Path("./output"), **changes)
    cfg.pop("LOSSWEAVE")
    cfg.OUTPUT_DIR = "./output"
    path = folder / "toy.yaml"
    path.write_text(cfg.dump())
    return str(path)
