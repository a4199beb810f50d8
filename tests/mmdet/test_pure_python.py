"""Pure-Python configs of MMEngine: types are classes, wherever a config is read or written."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.mmdet_support import assert_same
from mmengine.config import Config

from lossweave.cli import main
from lossweave.host.paths import framework_of
from lossweave.mmdet.configs import load_config, with_combiner

BASE = """
from mmengine.optim import OptimWrapper
from mmengine.runner import IterBasedTrainLoop
from torch.optim import SGD

train_cfg = dict(type=IterBasedTrainLoop, max_iters=2)
optim_wrapper = dict(type=OptimWrapper, optimizer=dict(type=SGD, lr=0.002, momentum=0.9))
"""
CONFIG = """
from mmcv.transforms import LoadImageFromFile
from mmdet.datasets import AspectRatioBatchSampler, CocoDataset
from mmdet.datasets.transforms import LoadAnnotations, PackDetInputs, RandomFlip, Resize
from mmdet.models import FPN, ResNet, RetinaHead, RetinaNet
from mmdet.models.data_preprocessors import DetDataPreprocessor
from mmdet.models.task_modules import MaxIoUAssigner, PseudoSampler
from mmdet.evaluation import CocoMetric
from mmdet.visualization import DetLocalVisualizer
from mmengine.config import read_base
from mmengine.dataset import DefaultSampler, InfiniteSampler
from mmengine.hooks import CheckpointHook
from mmengine.runner import TestLoop
from mmengine.visualization import LocalVisBackend

with read_base():
    from .schedule import *

default_scope = None
model = dict(
    type=RetinaNet,
    data_preprocessor=dict(type=DetDataPreprocessor),
    backbone=dict(type=ResNet, depth=18, base_channels=8),
    neck=dict(type=FPN, in_channels=[8, 16, 32, 64], out_channels=16, num_outs=5),
    bbox_head=dict(
        type=RetinaHead, num_classes=3, in_channels=16, feat_channels=16, stacked_convs=1),
    train_cfg=dict(
        assigner=dict(
            type=MaxIoUAssigner, pos_iou_thr=0.5, neg_iou_thr=0.4, min_pos_iou=0,
            ignore_iof_thr=-1),
        sampler=dict(type=PseudoSampler), allowed_border=-1, pos_weight=-1, debug=False),
    test_cfg=dict(nms_pre=10, min_bbox_size=0, score_thr=0.0,
                  nms=dict(type="nms", iou_threshold=0.5), max_per_img=5))
pipeline = [
    dict(type=LoadImageFromFile), dict(type=LoadAnnotations, with_bbox=True),
    dict(type=RandomFlip, prob=0.5), dict(type=PackDetInputs)]
train_dataloader = dict(
    batch_size=2, num_workers=0, sampler=dict(type=InfiniteSampler),
    batch_sampler=dict(type=AspectRatioBatchSampler),
    dataset=dict(
        type=CocoDataset, data_root="DATA", ann_file="annotations.json",
        data_prefix=dict(img="images/"), metainfo=dict(classes=("a", "b", "c")),
        pipeline=pipeline))
test_pipeline = [
    dict(type=LoadImageFromFile), dict(type=Resize, scale=(64, 64)),
    dict(type=PackDetInputs,
         meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor"))]
test_dataloader = dict(
    sampler=dict(type=DefaultSampler, shuffle=False),
    dataset={**train_dataloader["dataset"], "pipeline": test_pipeline, "test_mode": True})
test_cfg = dict(type=TestLoop)
test_evaluator = dict(type=CocoMetric, ann_file="DATA/annotations.json")
default_hooks = dict(checkpoint=dict(type=CheckpointHook, interval=1, by_epoch=False))
visualizer = dict(type=DetLocalVisualizer, vis_backends=[dict(type=LocalVisBackend)])
log_level = "ERROR"
randomness = dict(seed=0)
"""


@pytest.fixture
def config(data: Path, tmp_path: Path, monkeypatch) -> str:
    """Path of a small config whose types are classes."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "schedule.py").write_text(BASE)
    (tmp_path / "pure.py").write_text(CONFIG.replace("DATA", str(data)))
    return str(tmp_path / "pure.py")


def test_it_is_combined_twice_dumped_loaded_and_trained_again(config: str, tmp_path: Path) -> None:
    assert framework_of(config) == "mmdet"
    arguments = [config, "--combiner", "IMTLL", "--exact-resume", "--work-dir", "one"]
    one = main.train(arguments)
    assert type(one.model).__name__ == "CombinedRetinaNet"
    dumped = str(tmp_path / "one" / "pure.py")
    again = main.train([dumped, "--combiner", "IMTLL", "--exact-resume", "--work-dir", "two"])
    assert_same(one.model.state_dict(), again.model.state_dict())
    third = main.train([dumped, "--combiner", "DWA", "--work-dir", "three"])
    assert type(third.model.loss_combination.combiner).__name__ == "DWA"
    resumed = main.train([*arguments, "--resume", "--cfg-options", "train_cfg.max_iters=3"])
    assert resumed.iter == 3


def test_an_image_is_inferred_with_the_dumped_config(config: str, tmp_path: Path) -> None:
    main.train([config, "--combiner", "Max", "--work-dir", "w"])
    script = (
        "import sys, numpy\n"
        "from mmdet.apis import DetInferencer\n"
        "made = DetInferencer(sys.argv[1], sys.argv[2], device='cpu', show_progress=False)\n"
        "found = made(numpy.zeros((64, 64, 3), dtype=numpy.uint8))\n"
        "print(type(made.model).__name__, len(found['predictions']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "w/pure.py", "w/iter_2.pth"],
        capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.stdout.strip().endswith("CombinedRetinaNet 1"), done.stderr


def test_combiners_may_be_classes_too(config: str, tmp_path: Path) -> None:
    head = "from lossweave.combiners import LpNorm\nfrom lossweave.mmdet import (\n"
    head += "    CombinedLossDetector, CombinerHook)\n"
    tail = (
        "model.update(type=CombinedLossDetector, base_detector=RetinaNet, "
        "combiner=dict(type=LpNorm, p=3.0))\n"
        "default_hooks.update(lossweave=dict(type=CombinerHook))\n"
    )
    path = tmp_path / "classes.py"
    path.write_text(head + Path(config).read_text() + tail)
    runner = main.train([str(path), "--work-dir", "w"])
    assert runner.model.loss_combination.combiner.p == 3.0
    again = load_config("w/classes.py")
    assert again.model.combiner == dict(type="lossweave.combiners.LpNorm", p=3.0)
    assert with_combiner(again).model.type.endswith("CombinedLossDetector")
    assert main.train(["w/classes.py", "--work-dir", "v"]).iter == 2


def test_what_a_dumped_config_names_is_found() -> None:
    cfg = Config(dict(model=dict(type="mmdet.models.RetinaNet")))
    made = with_combiner(cfg, "lossweave.combiners.Max")
    assert made.model.base_detector == "mmdet.models.RetinaNet"
