"""Real detectors, shrunk, on a data set of a dozen images: seconds of training on a CPU."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from PIL import Image

CLASSES = ("a", "b", "c")

#: Stock config, and what makes it small.
DETECTORS: dict[str, tuple[str, dict[str, Any]]] = {
    "retinanet": (
        "mmdet::retinanet/retinanet_r18_fpn_1x_coco.py",
        {
            "model.backbone.init_cfg": None,
            "model.backbone.base_channels": 8,
            "model.neck.in_channels": [8, 16, 32, 64],
            "model.neck.out_channels": 16,
            "model.bbox_head.in_channels": 16,
            "model.bbox_head.feat_channels": 16,
            "model.bbox_head.stacked_convs": 1,
            "model.bbox_head.num_classes": 3,
        },
    ),
    "ssd": (
        "mmdet::ssd/ssdlite_mobilenetv2-scratch_8xb24-600e_coco.py",
        {"model.bbox_head.num_classes": 3},
    ),
    "faster_rcnn": (
        "mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py",
        {
            "model.backbone.init_cfg": None,
            "model.backbone.depth": 18,
            "model.backbone.base_channels": 8,
            "model.neck.in_channels": [8, 16, 32, 64],
            "model.neck.out_channels": 16,
            "model.rpn_head.in_channels": 16,
            "model.rpn_head.feat_channels": 16,
            "model.roi_head.bbox_roi_extractor.out_channels": 16,
            "model.roi_head.bbox_head.in_channels": 16,
            "model.roi_head.bbox_head.fc_out_channels": 32,
            "model.roi_head.bbox_head.num_classes": 3,
            "model.train_cfg.rpn_proposal.max_per_img": 50,
            "model.train_cfg.rpn_proposal.nms_pre": 100,
            "model.train_cfg.rcnn.sampler.num": 32,
        },
    ),
}


def write_data(root: Path, images: int = 12, size: int = 64) -> Path:
    """A COCO data set of coloured boxes on noise; image 0 has no object."""
    rng = np.random.default_rng(0)
    (root / "images").mkdir(parents=True, exist_ok=True)
    infos, boxes = [], []
    for i in range(images):
        picture = rng.integers(0, 80, (size, size, 3), dtype=np.uint8)
        for _ in range(0 if i == 0 else 1 + i % 3):
            w, h = rng.integers(16, 36, 2).tolist()
            x, y = rng.integers(0, size - w), rng.integers(0, size - h)
            label = int(rng.integers(0, 3))
            picture[y : y + h, x : x + w, label] = 220
            boxes.append(
                {
                    "id": len(boxes) + 1,
                    "image_id": i,
                    "category_id": label,
                    "bbox": [int(x), int(y), w, h],
                    "area": w * h,
                    "iscrowd": 0,
                }
            )
        Image.fromarray(picture).save(root / "images" / f"{i}.png")
        infos.append({"id": i, "file_name": f"{i}.png", "width": size, "height": size})
    categories = [{"id": k, "name": name} for k, name in enumerate(CLASSES)]
    content = {"images": infos, "annotations": boxes, "categories": categories}
    (root / "annotations.json").write_text(json.dumps(content))
    return root


def toy_config(
    detector: str,
    data: Path,
    work_dir: Path,
    combiner: Any = None,
    *,
    iterations: int = 4,
    workers: int = 0,
    batch_size: int = 2,
    seeded: bool = True,
    hook: bool = True,
    by_epoch: bool = False,
    model: dict[str, Any] | None = None,
    **overrides: Any,
) -> Config:
    """A config of a shrunk detector; stock where ``combiner`` is None.

    Args:
        detector: a key of :data:`DETECTORS`.
        combiner: as in a config; None leaves the model stock.
        seeded: numbered draws and our loops, or the stock ones.
        by_epoch: an epoch loop (``iterations`` are then epochs).
        model: further keys of the model, e.g. ``terms``.
        overrides: config options in dotted form, dots written as ``__``.
    """
    base, shrink = DETECTORS[detector]
    size = 64 if detector != "ssd" else 96
    cfg = Config.fromfile(_write_base(work_dir, base))
    cfg.merge_from_dict(shrink)
    pipeline = [
        dict(type="LoadImageFromFile", backend_args=None),
        dict(type="LoadAnnotations", with_bbox=True),
        dict(type="Resize", scale=(size, size), keep_ratio=False),
        dict(type="RandomFlip", prob=0.5),
        dict(type="PackDetInputs"),
    ]
    dataset = dict(
        type="CocoDataset",
        data_root=str(data),
        ann_file="annotations.json",
        data_prefix=dict(img="images/"),
        metainfo=dict(classes=CLASSES),
        filter_cfg=dict(filter_empty_gt=False),
        pipeline=pipeline,
        backend_args=None,
    )
    cfg.train_dataloader = dict(
        batch_size=batch_size,
        num_workers=workers,
        persistent_workers=workers > 0,
        sampler=dict(type="DefaultSampler" if by_epoch else "InfiniteSampler", shuffle=True),
        dataset=dataset,
    )
    if seeded:
        cfg.train_dataloader.batch_sampler = dict(type="lossweave.SeededBatchSampler")
    scope = "lossweave." if seeded else ""
    if by_epoch:
        cfg.train_cfg = dict(type=f"{scope}EpochBasedTrainLoop", max_epochs=iterations)
    else:
        cfg.train_cfg = dict(type=f"{scope}IterBasedTrainLoop", max_iters=iterations)
    cfg.val_cfg = cfg.test_cfg = None
    cfg.val_dataloader = cfg.test_dataloader = None
    cfg.val_evaluator = cfg.test_evaluator = None
    cfg.optim_wrapper = dict(
        type="OptimWrapper",
        optimizer=dict(type="SGD", lr=0.002, momentum=0.9, weight_decay=1e-3),
        clip_grad=dict(max_norm=10.0),
    )
    cfg.param_scheduler = [dict(type="LinearLR", start_factor=0.1, by_epoch=False, end=50)]
    cfg.default_hooks.checkpoint = dict(
        type="CheckpointHook", by_epoch=by_epoch, interval=1, save_last=True
    )
    cfg.default_hooks.logger = dict(type="LoggerHook", interval=2)
    cfg.default_hooks.pop("visualization", None)
    cfg.log_processor = dict(type="LogProcessor", window_size=2, by_epoch=by_epoch)
    cfg.custom_hooks = []
    cfg.log_level = "ERROR"
    cfg.env_cfg = dict(mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0))
    cfg.randomness = dict(seed=0)
    cfg.work_dir = str(work_dir)
    cfg.experiment_name = work_dir.name
    if combiner is not None:
        cfg.model.base_detector = cfg.model.type
        cfg.model.type = "lossweave.CombinedLossDetector"
        cfg.model.combiner = combiner
        if hook:
            cfg.default_hooks.lossweave = dict(type="lossweave.CombinerHook")
    cfg.merge_from_dict({f"model.{k}": v for k, v in (model or {}).items()})
    cfg.merge_from_dict({k.replace("__", "."): v for k, v in overrides.items()})
    return cfg


def evaluation_dataset(cfg: Config) -> dict[str, Any]:
    """The toy data of a config as they are tested on."""
    pipeline = [
        dict(type="LoadImageFromFile", backend_args=None),
        dict(type="Resize", scale=(64, 64), keep_ratio=False),
        dict(type="LoadAnnotations", with_bbox=True),
        dict(
            type="PackDetInputs",
            meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor"),
        ),
    ]
    return {**cfg.train_dataloader.dataset, "pipeline": pipeline, "test_mode": True}


def _write_base(work_dir: Path, base: str) -> str:
    work_dir.mkdir(parents=True, exist_ok=True)
    path = work_dir / "base.py"
    # Whole at once: the ranks of a test write the same file while others read it.
    part = path.with_suffix(f".{os.getpid()}.part")
    part.write_text(f"_base_ = {base!r}\n")
    part.replace(path)
    return str(path)
