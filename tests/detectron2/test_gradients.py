"""Combiners on Detectron2's detectors, against a computation without lossweave."""

import copy
import pickle

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import PolygonMasks
from helpers.detectron2_gradients import MODULES, shard_of, terms_of
from helpers.detectron2_toy import forward, image_batch, total
from helpers.mmdet_support import (
    ALL_COMBINERS,
    GRADIENT_COMBINERS,
    VALUE_COMBINERS,
    combiner_config,
)
from helpers.plain_gradients import combined, difference
from torch import Tensor

from lossweave.combiners import build_combiner
from lossweave.detectron2 import combine_losses, combined_class
from lossweave.errors import LossweaveError
from lossweave.progress import Progress


@pytest.mark.parametrize("boundary", ["parameters", "features", "representation"])
@pytest.mark.parametrize("detector", ["retinanet", "faster_rcnn"])
def test_every_method_of_gradients(detector: str, boundary: str, build) -> None:
    stock = build(detector, None)
    state = {k: v.clone() for k, v in stock.state_dict().items()}
    cut = MODULES.get(detector, "features") if boundary == "representation" else boundary
    batch = image_batch(0)
    shards = [shard_of(stock, batch, cut)]
    for name in GRADIENT_COMBINERS:
        model = build(detector, combiner_config(name, boundary=boundary), state)
        total(forward(model, batch)).backward()
        error = difference(model, combined(stock, shards, name))
        # An interior-point solver stops within its own tolerance.
        assert error < (1e-3 if name == "NashMTL" else 1e-5), f"{name}: {error:.1e}"
        if boundary == "representation":
            found = model.loss_combination.boundary.found
            assert set(found) == set(MODULES.get(detector, ())), found


@pytest.mark.parametrize("detector", ["retinanet", "faster_rcnn"])
def test_every_method_of_values(detector: str, build) -> None:
    stock = build(detector, None)
    state = {k: v.clone() for k, v in stock.state_dict().items()}
    batch = image_batch(0)
    terms = terms_of(forward(stock, batch))
    parameters = [p for p in stock.parameters() if p.requires_grad]
    rows = [torch.autograd.grad(t, parameters, retain_graph=True, allow_unused=True) for t in terms]
    for name in VALUE_COMBINERS:
        if name == "Sum":
            continue
        model = build(detector, combiner_config(name), state)
        root = total(forward(model, batch))
        root.backward()
        combiner = build_combiner(combiner_config(name))
        combiner.bind(("cls", "loc"))
        combiner.begin(Progress())
        value, weights = combiner.combine(torch.stack(terms).detach(), torch.tensor([True, True]))
        torch.testing.assert_close(root.detach(), value)
        expected = {
            key: sum(w * r[i] for w, r in zip(weights, rows, strict=True) if r[i] is not None)
            for i, (key, _) in enumerate((n, p) for n, p in stock.named_parameters())
        }
        expected = {k: e if isinstance(e, Tensor) else torch.zeros(()) for k, e in expected.items()}
        assert difference(model, expected) < 1e-5, name


def test_named_modules_as_a_boundary(build) -> None:
    model = build("retinanet", dict(type="MGDA", boundary=["backbone.fpn_output*"]))
    total(forward(model, image_batch(0))).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    with pytest.raises(LossweaveError, match="boundary: no module matches"):
        build("retinanet", dict(type="MGDA", boundary=["backbone.fpn_nothing"]))


def test_the_result_is_the_detector(build) -> None:
    stock = build("faster_rcnn", None)
    model = build("faster_rcnn", combiner_config("UncertaintyWeighting"))
    assert isinstance(model, type(stock)) and type(model).__name__ == "CombinedGeneralizedRCNN"
    assert combined_class(type(stock)) is type(model)
    more = set(model.state_dict()) - set(stock.state_dict())
    assert more and all(key.startswith("loss_combination.") for key in more)
    twins = copy.deepcopy(model), pickle.loads(pickle.dumps(model)), model
    values = [total(forward(twin, image_batch(0))).item() for twin in twins]  # each learns from it
    assert [type(twin) for twin in twins] == 3 * [type(model)] and len(set(values)) == 1
    stock.load_state_dict({k: v for k, v in model.state_dict().items() if k not in more})
    found = [m.eval()(image_batch(1))[0]["instances"].scores for m in (stock, model)]
    assert torch.equal(*found)


def test_combining_twice_or_nothing_is_refused(build) -> None:
    model = build("retinanet", None)
    with pytest.raises(LossweaveError, match="takes a model, but got dict"):
        combine_losses({}, "Max")
    with pytest.raises(LossweaveError, match="unknown combiner 'Maxx'"):
        combine_losses(model, "Maxx")
    assert type(model).__name__ == "RetinaNet"
    combine_losses(model, "Max")
    with pytest.raises(LossweaveError, match="is a combined detector already"):
        combine_losses(model, "Max")
    with pytest.raises(LossweaveError, match="Linear has no backbone"):
        combine_losses(torch.nn.Linear(1, 1), dict(type="MGDA", boundary="features"))


def test_cascade_by_head(make_cfg) -> None:
    cfg = make_cfg(
        "faster_rcnn", dict(type="Max"), LOSSWEAVE__TERMS="head", MODEL__MASK_ON=True,
        MODEL__ROI_HEADS__NAME="CascadeROIHeads", MODEL__ROI_BOX_HEAD__CLS_AGNOSTIC_BBOX_REG=True,
        MODEL__ROI_MASK_HEAD__NAME="MaskRCNNConvUpsampleHead",
        MODEL__ROI_MASK_HEAD__NUM_CONV=1, MODEL__ROI_MASK_HEAD__CONV_DIM=8,
    )  # fmt: skip
    model = build_model(cfg).train()
    batch = image_batch(0)
    for entry in batch:
        instances = entry["instances"]
        boxes = instances.gt_boxes.tensor.tolist()
        corners = [[[x, y, u, y, u, v, x, v]] for x, y, u, v in boxes]
        instances.gt_masks = PolygonMasks(corners)
    said: list[str] = []
    model.loss_combination.log = said.append
    root = total(forward(model, batch))
    root.backward()
    assert model.loss_combination.names == ("rpn_cls", "rpn_loc", "roi_cls", "roi_loc")
    assert said == [
        "terms: rpn_cls = loss_rpn_cls; rpn_loc = loss_rpn_loc; "
        "roi_cls = loss_cls_stage0 + loss_cls_stage1 + loss_cls_stage2; "
        "roi_loc = loss_box_reg_stage0 + loss_box_reg_stage1 + loss_box_reg_stage2",
        "the losses ['loss_mask'] belong to no term and are added with weight 1; name them in "
        "`terms` to combine them"
    ]


def test_every_combiner_is_reachable_from_yaml(make_cfg) -> None:
    for name in ALL_COMBINERS:
        model = build_model(make_cfg("retinanet", combiner_config(name)))
        assert model.loss_combination.label == name
