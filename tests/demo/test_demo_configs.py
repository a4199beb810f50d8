"""The demo's base configs build from their files alone, learn and predict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData

from lossweave.demo.sources import CLASSES

BASE = Path(__file__).parents[2] / "configs" / "mmdet" / "demo" / "_base_"
DETECTORS = sorted(BASE.glob("*_efficientnet-lite0.py"))


def _batch() -> dict[str, Any]:
    sample = DetDataSample(metainfo={"img_shape": (160, 160), "scale_factor": (1.0, 1.0)})
    sample.set_metainfo({"ori_shape": (160, 160), "img_id": 1})
    sample.gt_instances = InstanceData(
        bboxes=torch.tensor([[20.0, 30.0, 45.0, 75.0], [90.0, 60.0, 120.0, 110.0]]),
        labels=torch.tensor([3, 8]),
    )
    generator = torch.Generator().manual_seed(0)
    picture = torch.randint(0, 256, (3, 160, 160), generator=generator, dtype=torch.uint8)
    return {"inputs": [picture] * 2, "data_samples": [sample, sample]}


def test_there_are_four_detectors() -> None:
    names = [path.name.split("_")[0] for path in DETECTORS]
    assert names == ["cascade-rcnn", "faster-rcnn", "retinanet", "ssd"]


@pytest.mark.parametrize("path", DETECTORS, ids=lambda path: path.stem)
def test_detector_learns_and_predicts(path: Path) -> None:
    config = Config.fromfile(path)
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope(config.default_scope):
        model = MODELS.build(config.model)
    model.init_weights()
    assert model.backbone.pretrained and model.backbone.frozen_stages == 1

    model.train()
    batch = model.data_preprocessor(_batch(), training=True)
    # the backbone's weights expect RGB from -1 to 1
    assert -1 <= batch["inputs"].min() < -0.9 and 0.9 < batch["inputs"].max() <= 1
    total, _ = model.parse_losses(model(**batch, mode="loss"))
    total.backward()
    trained = [name for name, p in model.named_parameters() if p.grad is not None]
    required = [name for name, p in model.named_parameters() if p.requires_grad]
    assert torch.isfinite(total) and trained == required

    model.eval()
    with torch.no_grad():
        results = model.test_step(_batch())
    for result in results:
        assert result.pred_instances.bboxes.shape[1] == 4
        assert set(result.pred_instances.labels.tolist()) <= set(range(len(CLASSES)))


def test_data_and_evaluators_belong_together() -> None:
    config = Config.fromfile(BASE / "demo_data.py")
    for split in ("val", "test"):
        dataset = config[f"{split}_dataloader"].dataset
        assert config[f"{split}_evaluator"].ann_file == dataset.data_root + dataset.ann_file
        assert dataset.data_prefix.img == f"{split}/"
    for split in ("train", "val", "test"):
        assert config[f"{split}_dataloader"].dataset.metainfo.classes == CLASSES


def test_screen_config_is_the_demo_smaller() -> None:
    """The same losses and optimizer, at a size of its own, of which it trains less."""
    demo, screen = (
        Config.fromfile(BASE.parent / f"retinanet_{name}.py") for name in ("demo", "screen")
    )
    for split in ("train", "val", "test"):
        mine, yours = (c[f"{split}_dataloader"].dataset for c in (screen, demo))
        assert mine.ann_file == yours.ann_file
        assert mine.data_root == screen.data_root != yours.data_root
        sizes = [step.scale for step in mine.pipeline if step.type == "Resize"]
        assert sizes == [(96, 96)]
    for split in ("val", "test"):
        dataset = screen[f"{split}_dataloader"].dataset
        assert screen[f"{split}_evaluator"].ann_file == dataset.data_root + dataset.ann_file
    assert screen.optim_wrapper.optimizer.pop("fused")  # another computation of the same step
    assert screen.optim_wrapper == demo.optim_wrapper
    assert screen.model.bbox_head.loss_cls == demo.model.bbox_head.loss_cls
    assert screen.model.bbox_head.loss_bbox == demo.model.bbox_head.loss_bbox
    assert screen.train_cfg.max_iters == screen.param_scheduler[-1].end == screen.max_iters
    assert screen.default_hooks.checkpoint.interval == screen.max_iters
    assert screen.default_hooks.lossweave.type == "lossweave.CombinerHook"
    sizes = []
    for config in (demo, screen):
        with DefaultScope.overwrite_default_scope(config.default_scope):
            model = MODELS.build(config.model)
        sizes.append(sum(p.numel() for p in model.parameters()))
        levels = len(model.bbox_head.prior_generator.strides)
        assert model.neck.num_outs == levels
    assert sizes[1] < sizes[0]
