"""A staged training of the shrunk Faster R-CNN under Detectron2: a second a stage."""

from pathlib import Path

__all__ = ["LAZY", "write_config"]

LAZY = """\
import torch
from helpers.detectron2_toy import DATA, toy_cfg
from detectron2.config import LazyCall as L
from detectron2.data import (
    DatasetMapper, build_detection_test_loader, build_detection_train_loader,
    get_detection_dataset_dicts, transforms as T)
from detectron2.evaluation import COCOEvaluator
from detectron2.model_zoo import get_config
from detectron2.modeling import build_model
from detectron2.solver import get_default_optimizer_params
from fvcore.common.param_scheduler import CosineParamScheduler

train = get_config("common/train.py").train
train.init_checkpoint, train.seed, train.log_period = "", 0, 2
train.checkpointer = dict(period=2, max_to_keep=1)
dataloader = dict(
    train=L(build_detection_train_loader)(
        dataset=L(get_detection_dataset_dicts)(names=DATA, filter_empty=True),
        mapper=L(DatasetMapper)(
            is_train=True, image_format="BGR", augmentations=[
                L(T.Resize)(shape=(80, 96)), L(T.RandomFlip)(horizontal=True)]),
        total_batch_size=4, aspect_ratio_grouping=False, num_workers=0),
    test=L(build_detection_test_loader)(
        dataset=L(get_detection_dataset_dicts)(names=DATA, filter_empty=False),
        mapper=L(DatasetMapper)(is_train=False, augmentations=[], image_format="BGR"),
        num_workers=0),
    evaluator=L(COCOEvaluator)(dataset_name=DATA))
optimizer = L(torch.optim.SGD)(
    params=L(get_default_optimizer_params)(), lr=0.1, momentum=0.9, weight_decay=0.01)
lr_multiplier = L(CosineParamScheduler)(start_value=1.0, end_value=1.0)
model = L(build_model)(cfg=toy_cfg(
    "faster_rcnn", ".", MODEL__ROI_HEADS__SCORE_THRESH_TEST=0.0))
budget = dict(iterations=3, batch_size=2, lr=0.01, drops=[2], warmup=1)
schedule = dict(type="four_step", rpn=budget, rcnn=budget, joint=budget)
proposals = dict(max_per_img=60, min_bbox_size=4, batch_size=4)
evaluation = dict(recall=[10, 100])
"""


def write_config(path: Path, **changes: str) -> str:
    """The LazyConfig in a file; changes are texts in place of others' values.

    Args:
        path: the file.
        changes: by a name that stands at the beginning of a line, what it is instead; '' leaves
            the line out.
    """
    lines = []
    for line in LAZY.splitlines():
        name = line.partition(" =")[0]
        if changes.get(name) != "":
            lines.append(f"{name} = {changes[name]}" if name in changes else line)
    path.write_text("\n".join(lines) + "\n")
    return str(path)
