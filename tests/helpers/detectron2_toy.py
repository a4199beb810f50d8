"""Detectron2's real detectors, shrunk, on a data set of a dozen images."""

from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from detectron2.modeling.backbone.fpn import FPN, LastLevelMaxPool, LastLevelP6P7
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from torch import nn

from lossweave.detectron2 import add_lossweave_config

STOCK = {"retinanet": "RetinaNet", "faster_rcnn": "GeneralizedRCNN"}
DATA = "lossweave_toy"


class Tiny(Backbone):
    """Three levels of one convolution and one BatchNorm each."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 5, stride=4, padding=2), nn.ReLU())
        channels = {"res3": (8, 8), "res4": (8, 16), "res5": (16, 32)}
        for name, (given, made) in channels.items():
            layers = nn.Conv2d(given, made, 3, stride=2, padding=1), nn.BatchNorm2d(made), nn.ReLU()
            self.add_module(name, nn.Sequential(*layers))
        self._out_features = list(channels)
        self._out_feature_channels = {name: made for name, (_, made) in channels.items()}
        self._out_feature_strides = {"res3": 8, "res4": 16, "res5": 32}

    def forward(self, x: Any) -> dict[str, Any]:
        x, outputs = self.stem(x), {}
        for name in self._out_features:
            x = outputs[name] = getattr(self, name)(x)
        return outputs


@BACKBONE_REGISTRY.register()
def tiny_fpn(cfg: CfgNode, input_shape: ShapeSpec) -> Backbone:
    top = LastLevelP6P7(16, 16, "p5") if "p7" in cfg.MODEL.RETINANET.IN_FEATURES else None
    return FPN(Tiny(), ["res3", "res4", "res5"], 16, top_block=top or LastLevelMaxPool())


def register_data(root: Path) -> None:
    """The data set under the name DATA; registered anew for every session."""
    if DATA in DatasetCatalog:
        DatasetCatalog.remove(DATA)
    if DATA in MetadataCatalog.list():
        MetadataCatalog.remove(DATA)
    register_coco_instances(DATA, {}, str(root / "annotations.json"), str(root / "images"))


def toy_cfg(detector: str, work_dir: Path, combiner: Any = None, **changes: Any) -> CfgNode:
    """A yaml config's node.

    Args:
        detector: 'retinanet' or 'faster_rcnn'.
        work_dir: the output directory.
        combiner: dict(type=..., ...) for a combined detector; None for the stock one.
        changes: keys with ``__`` for the dots.
    """
    cfg = add_lossweave_config(get_cfg())
    stock = STOCK[detector]
    combined = combiner is not None
    cfg.MODEL.META_ARCHITECTURE = "CombinedLossDetector" if combined else stock
    cfg.LOSSWEAVE.BASE_DETECTOR = stock
    if combined:
        arguments = dict(combiner)
        cfg.LOSSWEAVE.COMBINER.TYPE = arguments.pop("type")
        cfg.LOSSWEAVE.COMBINER.ARGS.update(
            {k: CfgNode(v) if isinstance(v, dict) else v for k, v in arguments.items()}
        )
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.WEIGHTS = ""
    cfg.MODEL.BACKBONE.NAME = "tiny_fpn"
    if detector == "retinanet":
        features, sizes = ["p3", "p4", "p5", "p6", "p7"], [[16], [32], [64], [128], [256]]
        cfg.MODEL.RETINANET.NUM_CLASSES = 3
        cfg.MODEL.RETINANET.IN_FEATURES = features
        cfg.MODEL.RETINANET.NUM_CONVS = 1
        cfg.MODEL.ANCHOR_GENERATOR.SIZES = sizes
    else:
        features = ["p3", "p4", "p5", "p6"]
        cfg.MODEL.RETINANET.IN_FEATURES = features
        cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[16], [32], [64], [128]]
        cfg.MODEL.RPN.IN_FEATURES = features
        cfg.MODEL.RPN.PRE_NMS_TOPK_TRAIN = 100
        cfg.MODEL.RPN.POST_NMS_TOPK_TRAIN = 50
        cfg.MODEL.RPN.PRE_NMS_TOPK_TEST = 100
        cfg.MODEL.RPN.POST_NMS_TOPK_TEST = 50
        cfg.MODEL.ROI_HEADS.NAME = "StandardROIHeads"
        cfg.MODEL.ROI_HEADS.IN_FEATURES = ["p3", "p4", "p5"]
        cfg.MODEL.ROI_HEADS.NUM_CLASSES = 3
        cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = 16
        cfg.MODEL.ROI_BOX_HEAD.NAME = "FastRCNNConvFCHead"
        cfg.MODEL.ROI_BOX_HEAD.NUM_FC = 2
        cfg.MODEL.ROI_BOX_HEAD.FC_DIM = 32
        cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION = 7
    cfg.DATASETS.TRAIN = (DATA,)
    cfg.DATASETS.TEST = (DATA,)
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.INPUT.MIN_SIZE_TRAIN = (64,)
    cfg.INPUT.MIN_SIZE_TEST = 64
    cfg.SOLVER.IMS_PER_BATCH = 2
    cfg.SOLVER.BASE_LR = 0.01
    cfg.SOLVER.WARMUP_ITERS = 2
    cfg.SOLVER.MAX_ITER = 4
    cfg.SOLVER.STEPS = ()
    cfg.SOLVER.CHECKPOINT_PERIOD = 10**6
    cfg.TEST.EVAL_PERIOD = 0
    cfg.SEED = 0
    cfg.OUTPUT_DIR = str(work_dir)
    for key, value in changes.items():
        node = cfg
        *path, last = key.split("__")
        for part in path:
            node = node[part]
        node[last] = value
    return cfg


def image_batch(rank: int, empty: bool = False, size: int = 64) -> list[dict[str, Any]]:
    """Two images of a rank; with ``empty``, without any object."""
    generator = torch.Generator().manual_seed(rank)
    batch = []
    for _ in range(2):
        image = torch.randint(0, 255, (3, size, size), generator=generator, dtype=torch.uint8)
        corner = torch.randint(0, 24, (2, 2), generator=generator).float()
        boxes = torch.cat([corner, corner + 28], dim=1)[: 0 if empty else 2]
        instances = Instances((size, size))
        instances.gt_boxes = Boxes(boxes)
        instances.gt_classes = torch.randint(0, 3, (len(boxes),), generator=generator)
        batch.append({"image": image, "instances": instances, "height": size, "width": size})
    return batch


def forward(model: Any, batch: list[dict[str, Any]], module: Any = None) -> Any:
    """A training forward as in the first iteration of a trainer, with the same random draws.

    Args:
        model: the detector.
        batch: its input.
        module: what is called, where that is a wrapper of the detector.
    """
    if hasattr(model, "loss_normalizer"):  # dense detectors count positives over iterations
        del model.loss_normalizer
    torch.manual_seed(7)
    with EventStorage(0):
        return (model if module is None else module)(batch)


def total(losses: dict[str, Any]) -> Any:
    """What a trainer runs its backward from: the sum of what a detector returns."""
    return sum(losses.values())
