"""The config contract: a combined detector is the stock detector to everything else."""

import copy
import pickle
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from helpers.mmdet_support import assert_same, combiner_config
from helpers.mmdet_toy import toy_config
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner, load_checkpoint

import lossweave
from lossweave.host.paths import config_root, resolve_config
from lossweave.mmdet import CombinedLossMixin, combined_class

TOOLS = config_root("mmdet").parent / "tools"


def _build(cfg: Config):
    init_default_scope("mmdet")
    return MODELS.build(cfg.model)


@pytest.fixture
def combined(make_config):
    return _build(make_config("retinanet", combiner_config("UncertaintyWeighting")))


def test_it_is_the_stock_detector(combined, make_config) -> None:
    from mmdet.models import RetinaNet

    stock = _build(make_config("retinanet", name="stock"))
    assert isinstance(combined, RetinaNet) and isinstance(combined, CombinedLossMixin)
    own = set(combined.state_dict()) - set(stock.state_dict())
    assert set(stock.state_dict()) <= set(combined.state_dict())
    assert own and all(key.startswith("loss_combination.") for key in own)
    assert not [n for n, _ in combined.named_parameters() if n.startswith("loss_combination")]
    assert combined_class(RetinaNet) is type(combined)


def test_copies_pickles_and_saves(combined, tmp_path: Path) -> None:
    torch.save(combined, tmp_path / "model.pth")
    for other in (
        copy.deepcopy(combined),
        pickle.loads(pickle.dumps(combined)),
        torch.load(tmp_path / "model.pth", weights_only=False),
    ):
        assert type(other) is type(combined)
        assert_same(other.state_dict(), combined.state_dict())


def _loads(rank: int, path: str, expected: str) -> None:
    model = torch.load(path, weights_only=False)
    assert type(model).__name__ == expected


def test_spawned_processes_load_it(combined, tmp_path: Path) -> None:
    torch.save(combined, tmp_path / "model.pth")
    mp.spawn(_loads, (str(tmp_path / "model.pth"), "CombinedRetinaNet"), nprocs=1)


def test_checkpoints_fit_both_ways(make_config, train, tmp_path: Path) -> None:
    trained = train(make_config("retinanet", "IMTLL", "ours"))
    stock = _build(make_config("retinanet", name="stock"))
    path = (tmp_path / "ours" / "last_checkpoint").read_text()
    loaded = load_checkpoint(stock, path, strict=False)
    assert {k for k in loaded["state_dict"] if k not in stock.state_dict()} == {
        k for k in trained.model.state_dict() if k.startswith("loss_combination")
    }
    assert_same(
        {k: v for k, v in trained.model.state_dict().items() if "loss_combination" not in k},
        stock.state_dict(),
    )
    theirs = make_config("retinanet", "IMTLL", "theirs", iterations=1)
    torch.save(dict(state_dict=stock.state_dict(), meta={}), tmp_path / "stock.pth")
    theirs.load_from = str(tmp_path / "stock.pth")
    runner = Runner.from_cfg(theirs)
    runner.load_or_resume()
    assert_same({k: runner.model.state_dict()[k] for k in stock.state_dict()}, stock.state_dict())


def test_child_config_and_options(data: Path, tmp_path: Path) -> None:
    """No nesting, no _delete_: the stock keys stay where they are."""
    (tmp_path / "parent.py").write_text(
        "_base_ = 'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py'\n"
        "model = dict(type='lossweave.CombinedLossDetector', base_detector=_base_.model.type,\n"
        "    backbone=dict(init_cfg=None), combiner=dict(type='LpNorm', p=3.0))\n"
        "default_hooks = dict(lossweave=dict(type='lossweave.CombinerHook'))\n"
    )
    (tmp_path / "child.py").write_text(
        "_base_ = './parent.py'\nmodel = dict(bbox_head=dict(num_classes=7))\n"
    )
    cfg = Config.fromfile(tmp_path / "child.py")
    cfg.merge_from_dict({"model.bbox_head.feat_channels": 32, "model.combiner.p": 4.0})
    model = _build(cfg)
    assert model.bbox_head.num_classes == 7 and model.bbox_head.feat_channels == 32
    assert model.loss_combination.combiner.p == 4.0


def _with_validation(cfg: Config) -> Config:
    dataset = copy.deepcopy(cfg.train_dataloader.dataset)
    dataset.test_mode = True
    dataset.pipeline = [
        dict(type="LoadImageFromFile"),
        dict(type="Resize", scale=(64, 64), keep_ratio=False),
        dict(type="LoadAnnotations", with_bbox=True),
        dict(
            type="PackDetInputs",
            meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor"),
        ),
    ]
    loader = dict(
        batch_size=2,
        num_workers=0,
        sampler=dict(type="DefaultSampler", shuffle=False),
        dataset=dataset,
    )
    cfg.val_dataloader = cfg.test_dataloader = loader
    evaluator = dict(
        type="CocoMetric", ann_file=f"{dataset.data_root}/annotations.json", metric="bbox"
    )
    cfg.val_evaluator = cfg.test_evaluator = evaluator
    cfg.val_cfg, cfg.test_cfg = dict(type="ValLoop"), dict(type="TestLoop")
    cfg.default_hooks.visualization = dict(type="DetVisualizationHook")
    return cfg


def _stock_tool(name: str, monkeypatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
    runpy.run_path(str(TOOLS / name), run_name="__main__")


@pytest.mark.parametrize("detector", ["retinanet", "faster_rcnn", "ssd"])
def test_stock_tools(detector, make_config, tmp_path, monkeypatch) -> None:
    """The stock train.py trains it; the stock test.py evaluates its checkpoint, stock or not."""
    cfg = _with_validation(make_config(detector, combiner_config("DWA"), iterations=2))
    cfg.dump(tmp_path / "ours.py")
    _stock_tool("train.py", monkeypatch, tmp_path / "ours.py", "--work-dir", tmp_path / "w")
    checkpoint = tmp_path / "w" / "iter_2.pth"
    assert checkpoint.is_file()
    stock = _with_validation(make_config(detector, name="stock"))
    if detector == "ssd":
        stock.model.bbox_head.type = "lossweave.SSDHead"  # the stock one cannot predict
    stock.dump(tmp_path / "stock.py")
    for config in ("ours", "stock"):
        _stock_tool(
            "test.py", monkeypatch, tmp_path / f"{config}.py", checkpoint,
            "--work-dir", tmp_path / config,
        )  # fmt: skip
    _stock_tool(
        "test.py", monkeypatch, tmp_path / "ours.py", checkpoint, "--tta",
        "--work-dir", tmp_path / "tta",
    )  # fmt: skip


def test_inference_apis(make_config, train, tmp_path: Path) -> None:
    from mmdet.apis import DetInferencer, inference_detector, init_detector

    cfg = _with_validation(make_config("retinanet", "Max", "run", iterations=1))
    train(cfg)
    checkpoint = str(tmp_path / "run" / "iter_1.pth")
    image = np.zeros((64, 64, 3), dtype=np.uint8)
    cfg.dump(tmp_path / "cfg.py")  # inference_detector changes the config's pipeline
    model = init_detector(cfg, checkpoint, device="cpu")
    assert isinstance(model, CombinedLossMixin)
    assert len(inference_detector(model, image).pred_instances) >= 0
    inferencer = DetInferencer(str(tmp_path / "cfg.py"), checkpoint, device="cpu")
    assert "predictions" in inferencer(image, no_save_vis=True)


def test_losses_outside_of_training_are_the_base_classes(combined) -> None:
    losses = dict(loss_cls=torch.tensor(2.0), loss_bbox=torch.tensor(3.0))
    with torch.no_grad():
        total, _ = combined.parse_losses(losses)
    assert total == 5.0
    assert not combined.loss_combination._checked


SHIPPED = [
    path
    for path in sorted(config_root("lossweave").glob("mmdet/*/*.py"))
    if path.parent.name != "alternating"  # a schedule of a plain detector: test_alternating.py
]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_shipped_configs_build(path: Path) -> None:
    cfg = Config.fromfile(path)
    for part in ("backbone", "roi_head"):
        if part in cfg.model:
            cfg.model[part].pop("init_cfg", None)
    if "pretrained" in cfg.model.backbone:
        cfg.model.backbone.pretrained = False
    model = _build(cfg)
    assert isinstance(model, CombinedLossMixin)
    assert cfg.default_hooks.lossweave.type == "lossweave.CombinerHook"
    assert cfg.train_cfg.type.startswith("lossweave.")
    assert cfg.train_dataloader.batch_sampler.type == "lossweave.SeededBatchSampler"


def test_all_shipped_configs_are_seen() -> None:
    assert len(SHIPPED) >= 11
    name = "lossweave::mmdet/ssd/ssd300_coco.py"
    assert resolve_config(name) == str(config_root("lossweave") / "mmdet/ssd/ssd300_coco.py")


FURTHER = {
    "cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco.py": 2,
    "mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py": 2,
    "fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py": 2,
    "atss/atss_r50_fpn_1x_coco.py": 2,
    "gfl/gfl_r50_fpn_1x_coco.py": 2,
    "yolox/yolox_tiny_8xb8-300e_coco.py": 2,
    "detr/detr_r50_8xb2-150e_coco.py": 2,
    "rpn/rpn_r50_fpn_1x_coco.py": 2,
}


@pytest.mark.parametrize("name", FURTHER, ids=lambda n: n.split("/")[0])
def test_other_detectors_train_with_no_further_code(name: str, tmp_path: Path) -> None:
    """One real step of each, at full width on a tiny image."""
    (tmp_path / "c.py").write_text(f"_base_ = 'mmdet::{name}'\n")
    cfg = Config.fromfile(tmp_path / "c.py")
    cfg.model.backbone.pop("init_cfg", None)
    if cfg.model.backbone.type == "ResNet":
        cfg.model.backbone.base_channels = 8
        cfg.model.neck.in_channels = [c // 8 for c in cfg.model.neck.in_channels]
    cfg.model.update(
        type="lossweave.CombinedLossDetector",
        base_detector=cfg.model.type,
        combiner=dict(type="GeometricMean"),
    )
    MessageHub.get_instance(name).update_info("iter", 0)  # YOLOX's preprocessor asks for it
    model = _build(cfg).train()
    root, _ = model.parse_losses(_forward(model, masks="mask" in name))
    root.backward()
    assert root.isfinite() and len(model.loss_combination.last()) == FURTHER[name]
    assert sum(p.grad is not None for p in model.parameters()) > 20
    assert all(v["value"] > 0 for v in model.loss_combination.last().values())


@pytest.mark.parametrize("boundary", ["parameters", "features", "representation"])
@pytest.mark.parametrize("name", [n for n in FURTHER if n.startswith(("atss", "detr"))])
def test_gradients_of_other_detectors(name: str, boundary: str, tmp_path: Path) -> None:
    (tmp_path / "c.py").write_text(f"_base_ = 'mmdet::{name}'\n")
    cfg = Config.fromfile(tmp_path / "c.py")
    cfg.model.backbone.pop("init_cfg", None)
    cfg.model.backbone.base_channels = 8
    cfg.model.neck.in_channels = [c // 8 for c in cfg.model.neck.in_channels]
    cfg.model.update(
        type="lossweave.CombinedLossDetector",
        base_detector=cfg.model.type,
        combiner=dict(type="MGDA", boundary=boundary),
    )
    model = _build(cfg).train()
    root, _ = model.parse_losses(_forward(model, masks=False))
    root.backward()
    assert sum(v["weight"] for v in model.loss_combination.last().values()) == pytest.approx(1)
    assert sum(p.grad is not None and p.grad.any() for p in model.parameters()) > 20


def _forward(model, masks: bool) -> dict:
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks
    from mmengine.structures import InstanceData

    sample = DetDataSample(
        metainfo=dict(
            img_shape=(96, 96), ori_shape=(96, 96), batch_input_shape=(96, 96),
            scale_factor=(1.0, 1.0), img_id=0,
        )
    )  # fmt: skip
    boxes = torch.tensor([[8.0, 8.0, 60.0, 70.0], [30.0, 20.0, 90.0, 90.0]])
    labels = torch.zeros(2, dtype=torch.long)
    sample.gt_instances = InstanceData(bboxes=boxes, labels=labels)
    if masks:
        sample.gt_instances.masks = BitmapMasks(np.ones((2, 96, 96), dtype=np.uint8), 96, 96)
    image = torch.randint(0, 255, (3, 96, 96), dtype=torch.uint8)
    data = model.data_preprocessor(dict(inputs=[image] * 2, data_samples=[sample] * 2), True)
    return model(**data, mode="loss")


def test_terms_by_head(make_config) -> None:
    model = _build(make_config("faster_rcnn", "Sum", model=dict(terms="head")))
    assert model.loss_combination.names == ("rpn_cls", "rpn_loc", "roi_cls", "roi_loc")
    single = _build(make_config("retinanet", "Sum", model=dict(terms="head")))
    assert single.loss_combination.names == ("cls", "loc")


def test_nested_per_head_then_over_heads(make_config, train) -> None:
    terms = dict(
        rpn=dict(combiner="Sum", terms=dict(cls="loss_rpn_cls", loc="loss_rpn_bbox")),
        roi=dict(combiner="GeometricMean", terms=dict(cls="loss_cls", loc="loss_bbox")),
    )
    cfg = make_config("faster_rcnn", "UncertaintyWeighting", model=dict(terms=terms))
    runner = train(cfg)
    last = runner.model.loss_combination.last()
    assert list(last) == ["rpn.cls", "rpn.loc", "roi.cls", "roi.loc"]
    assert "train/weight_rpn_cls" in runner.message_hub.log_scalars


def test_own_combiner_registers_with_one_decorator(make_config, train) -> None:
    @lossweave.register_combiner
    class Harmonic(lossweave.Combiner):
        """The harmonic mean of the terms that are there."""

        def value(self, losses, present):
            return present.sum() / (present / losses.clamp(min=1e-6)).sum()

    try:
        train(make_config("retinanet", "Harmonic", iterations=1))
    finally:
        from lossweave.combiners.registry import _COMBINERS

        del _COMBINERS["Harmonic"]


def test_toy_config_without_combiner_is_stock(data: Path, tmp_path: Path) -> None:
    assert toy_config("ssd", data, tmp_path / "x").model.type == "SingleStageDetector"
