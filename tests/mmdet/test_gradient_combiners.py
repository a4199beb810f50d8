"""Combiners of gradients on real detectors, against a computation without lossweave."""

import copy
import functools
import pickle
from typing import Any

import pytest
import torch
import torch.utils.checkpoint
from helpers import plain_gradients
from helpers.mmdet_support import GRADIENT_COMBINERS, combiner_config, image_batch
from helpers.plain_gradients import MODULES, combined, difference, shard_of
from mmdet.models.backbones import resnet
from torchjd import aggregation

from lossweave.combiners import GradientCombiner, register_combiner
from lossweave.combiners.registry import _COMBINERS
from lossweave.errors import LossweaveError
from lossweave.mmdet.detector import CaughtMixin
from lossweave.progress import Progress

SIZES = {"ssd": 96}
FEW = ["PCGrad", "MGDA", "AlignedMTL", "GradDrop"]


def backward(model: Any, batch: dict[str, Any], scale: float = 1.0) -> Any:
    """One training forward and backward; gradients are freed of the scale."""
    model.zero_grad()
    torch.manual_seed(7)
    root, _ = model.parse_losses(model(**model.data_preprocessor(batch, True), mode="loss"))
    (scale * root).backward()
    for p in model.parameters():
        if p.grad is not None:
            p.grad /= scale
    return root


def grads_of(model: Any) -> dict[str, torch.Tensor]:
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("boundary", ["parameters", "features", "representation"])
@pytest.mark.parametrize("detector", ["retinanet", "faster_rcnn", "ssd"])
def test_every_method_against_plain_computation(detector: str, boundary: str, build) -> None:
    stock = build(detector, None)
    state = {k: v.clone() for k, v in stock.state_dict().items()}
    cut = MODULES.get(detector, "features") if boundary == "representation" else boundary
    batch = image_batch(0, size=SIZES.get(detector, 64))
    shards = [shard_of(stock, batch, cut)]
    few = detector == "ssd" and boundary == "representation"  # which is its features
    for name in FEW if few else GRADIENT_COMBINERS:
        model = build(detector, combiner_config(name, boundary=boundary), state)
        backward(model, batch)
        error = difference(model, combined(stock, shards, name))
        assert error < (1e-3 if name == "NashMTL" else 1e-5), f"{name}: {error:.1e}"


@pytest.fixture
def unit():
    @register_combiner
    class Unit(GradientCombiner):
        """Weights 1: the plain sum, by the way of gradients."""

        def weigh(self, gramian, terms):
            return torch.ones(len(terms))

    yield "Unit"
    del _COMBINERS["Unit"]


@pytest.mark.parametrize(
    ("detector", "boundary", "exact"),
    [
        ("retinanet", "features", True),
        ("ssd", "features", True),
        ("retinanet", "representation", True),
        ("ssd", "representation", True),
        ("faster_rcnn", "representation", True),
        ("faster_rcnn", "features", False),
        ("retinanet", "parameters", False),
        ("faster_rcnn", "parameters", False),
        ("ssd", "parameters", False),
        ("faster_rcnn", ["rpn_head.rpn_conv", "*.shared_fcs.1"], True),
        ("retinanet", ["neck"], True),
    ],
)
def test_unit_weights_give_the_stock_gradient(detector, boundary, exact, build, unit) -> None:
    stock = build(detector, None)
    batch = image_batch(1, size=SIZES.get(detector, 64))
    state = {k: v.clone() for k, v in stock.state_dict().items()}
    backward(stock, batch)
    model = build(detector, dict(type=unit, boundary=boundary), state)
    for iteration in range(2):  # the second time without a search for the boundary
        model.load_state_dict(state, strict=False)
        model.loss_combination.set_progress(Progress(iteration))
        backward(model, batch)
        ours, theirs = grads_of(model), grads_of(stock)
        assert ours.keys() == theirs.keys()
        for name, grad in theirs.items():
            if exact:
                assert torch.equal(ours[name], grad), name
            else:
                largest = max(g.abs().max() for g in theirs.values())
                assert (ours[name] - grad).abs().max() < 1e-5 * largest, name


@pytest.mark.parametrize("boundary", ["parameters", "features", "representation"])
def test_a_loss_scaler_changes_nothing(boundary, build) -> None:
    batch = image_batch(0)
    for name in ("FairGrad", "NashMTL", "UPGrad", "PCGrad"):
        model = build("faster_rcnn", combiner_config(name, boundary=boundary))
        found = []
        for scale in (1.0, 2.0**16):
            model.loss_combination.combiner.reset()
            backward(model, batch, scale)
            found.append(grads_of(model))
        for key, grad in found[0].items():
            assert torch.allclose(found[1][key], grad, rtol=1e-4, atol=1e-6), (name, key)


@pytest.mark.parametrize("boundary", ["parameters", "features", "representation"])
def test_bfloat16_and_overflow(boundary, build) -> None:
    model = build("retinanet", combiner_config("MGDA", boundary=boundary))
    # Large enough that no feature map has one element: torch's bfloat16 convolution on a CPU
    # returns gradients from uninitialised memory there.
    data = model.data_preprocessor(image_batch(0, size=160), True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = model(**data, mode="loss")
    root, _ = model.parse_losses(losses)
    root.backward()
    assert all(g.isfinite().all() for g in grads_of(model).values())
    weights = [entry["weight"] for entry in model.loss_combination.last().values()]
    assert sum(weights) == pytest.approx(1) and weights[0] != 0.5
    model.loss_combination.set_progress(Progress(1))
    backward(model, image_batch(0), scale=torch.inf)  # overflows: no solver, equal weights
    assert [e["weight"] for e in model.loss_combination.last().values()] == [0.5, 0.5]
    assert not all(g.isfinite().all() for g in grads_of(model).values())


@pytest.mark.parametrize("boundary", ["parameters", "features", "representation"])
@pytest.mark.parametrize("detector", ["retinanet", "faster_rcnn", "ssd"])
def test_a_batch_without_objects(detector, boundary, build) -> None:
    for name in ("MGDA", "UPGrad", "NashMTL", "GradNorm"):
        model = build(detector, combiner_config(name, boundary=boundary))
        backward(model, image_batch(0, empty=True, size=SIZES.get(detector, 64)))
        grads = grads_of(model)
        assert all(g.isfinite().all() for g in grads.values())
        if detector != "ssd":  # whose stock losses are 0 then: its negatives go by positives
            assert any(g.abs().max() > 0 for n, g in grads.items() if "backbone" in n), name


# ------------------------------------------------------------------- what stands in the graph


@pytest.mark.parametrize(
    ("reentrant", "boundary"), [(False, "parameters"), (False, "features"), (True, "features")]
)
def test_activation_checkpoints(reentrant, boundary, build, monkeypatch) -> None:
    batch = image_batch(0)
    plain = build("retinanet", combiner_config("PCGrad", boundary=boundary))
    backward(plain, batch)
    plain_grads = grads_of(plain)
    checkpoint = functools.partial(torch.utils.checkpoint.checkpoint, use_reentrant=reentrant)
    monkeypatch.setattr(resnet.cp, "checkpoint", checkpoint)
    model = build("retinanet", combiner_config("PCGrad", boundary=boundary), plain.state_dict())
    for module in model.backbone.modules():
        if hasattr(module, "with_cp"):
            module.with_cp = True
    backward(model, batch)
    for name, grad in grads_of(model).items():
        assert torch.allclose(grad, plain_grads[name], rtol=1e-4, atol=1e-6), name


def test_reentrant_checkpoints_are_refused_at_the_parameters(build) -> None:
    model = build("retinanet", combiner_config("PCGrad"))
    for module in model.backbone.modules():
        if hasattr(module, "with_cp"):
            module.with_cp = True
    with pytest.raises(LossweaveError, match=r"reentrant .*boundary='features'"):
        backward(model, image_batch(0))


@pytest.mark.parametrize("frozen", [1, 4])
@pytest.mark.parametrize("boundary", ["parameters", "features"])
def test_frozen_stages(frozen, boundary, build) -> None:
    stock = build("retinanet", None)
    for s in (stock, model := build("retinanet", combiner_config("MGDA", boundary=boundary),
                                    stock.state_dict())):  # fmt: skip
        s.backbone.frozen_stages = frozen
        s.backbone._freeze_stages()
        s.train()
    batch = image_batch(0)
    expected = combined(stock, [shard_of(stock, batch, boundary)], "MGDA")
    backward(model, batch)
    assert difference(model, expected) < 1e-5
    assert not [n for n in grads_of(model) if n.startswith("backbone.layer1")]


@pytest.mark.parametrize("torchvision", [False, True])
def test_compiled_roi_align(torchvision, build) -> None:
    stock = build("faster_rcnn", None)
    model = build("faster_rcnn", combiner_config("PCGrad"), stock.state_dict())
    for s in (stock, model):
        for layer in s.roi_head.bbox_roi_extractor.roi_layers:
            layer.use_torchvision = torchvision
    batch = image_batch(0)
    expected = combined(stock, [shard_of(stock, batch, "parameters")], "PCGrad")
    backward(model, batch)
    assert difference(model, expected) < 1e-5


# ----------------------------------------------------------------------------- boundaries


def test_representation_finds_the_last_shared_layers(build) -> None:
    model = build("faster_rcnn", combiner_config("PCGrad", boundary="representation"))
    backward(model, image_batch(0))
    assert set(model.loss_combination.boundary.found) == set(MODULES["faster_rcnn"])
    state = model.state_dict()
    other = build("faster_rcnn", combiner_config("PCGrad", boundary="representation"))
    other.load_state_dict(state)
    assert other.loss_combination.boundary.found == model.loss_combination.boundary.found
    assert not any(m._forward_hooks for m in model.modules())


def test_terms_by_head_at_the_representation_are_warned_of(build) -> None:
    options = dict(model=dict(terms="head"))
    model = build("faster_rcnn", combiner_config("PCGrad", boundary="representation"), **options)
    said: list[str] = []
    model.loss_combination.log = said.append
    for _ in range(2):
        backward(model, image_batch(0))
    assert said[0].startswith("terms: rpn_cls = loss_rpn_cls; ")
    assert len(said) == 2 and "rpn_cls with roi_cls" in said[1]
    assert set(model.loss_combination.boundary.found) == set(MODULES["faster_rcnn"])


@pytest.mark.parametrize(
    ("boundary", "message"),
    [
        (["neck.fpn_convs.3"], "lies above .*, which the term .* reaches around it as well"),
        (["backbone", "neck"], "is computed from what"),
    ],
)
def test_boundaries_that_cannot_be(boundary, message, build) -> None:
    model = build("retinanet", dict(type="PCGrad", boundary=boundary))
    with pytest.raises(LossweaveError, match=message):
        backward(model, image_batch(0))


def test_a_boundary_of_no_module_ends_the_build(build) -> None:
    with pytest.raises(LossweaveError, match="no module matches 'nek'; did you mean 'neck'"):
        build("retinanet", dict(type="PCGrad", boundary=["nek"]))


def test_gradients_cannot_be_combined_inside_a_nested_term(build) -> None:
    inner = dict(combiner="PCGrad", terms=dict(cls="loss_cls", loc="loss_bbox"))
    with pytest.raises(LossweaveError, match="only be the outermost combiner"):
        build("retinanet", "Sum", model=dict(terms=dict(all=inner)))


def test_values_per_head_then_gradients_over_heads(build) -> None:
    terms = dict(
        rpn=dict(combiner="GeometricMean", terms=dict(cls="loss_rpn_cls", loc="loss_rpn_bbox")),
        roi=dict(combiner="Sum", terms=dict(cls="loss_cls", loc="loss_bbox")),
    )
    model = build("faster_rcnn", combiner_config("MGDA"), model=dict(terms=terms))
    backward(model, image_batch(0))
    weights = {k: v["weight"] for k, v in model.loss_combination.last().items()}
    assert weights["roi.cls"] == weights["roi.loc"] > 0 and weights["rpn.cls"] > 0


def test_the_class_catches_only_where_it_must(build) -> None:
    assert not isinstance(build("retinanet", combiner_config("PCGrad")), CaughtMixin)
    assert not isinstance(build("retinanet", "Sum"), CaughtMixin)
    caught = build("retinanet", combiner_config("PCGrad", boundary="features"))
    assert isinstance(caught, CaughtMixin) and type(caught).__name__ == "CombinedRetinaNet"
    for other in (copy.deepcopy(caught), pickle.loads(pickle.dumps(caught))):
        assert type(other) is type(caught)
        backward(other, image_batch(0))
    backward(caught, image_batch(0))
    copy.deepcopy(caught), pickle.loads(pickle.dumps(caught))


# ------------------------------------------------------------------------ in a training run


def test_what_is_logged(make_config, train) -> None:
    runner = train(make_config("retinanet", combiner_config("PCGrad", boundary="features")))
    scalars = runner.message_hub.log_scalars
    names = {n.removeprefix("train/") for n in scalars}
    assert {"grad_norm_cls", "grad_norm_loc", "cos_cls_loc", "conflict"} <= names
    assert -1 <= scalars["train/cos_cls_loc"].current() <= 1
    assert 0 <= scalars["train/conflict"].current() <= 1
    assert scalars["train/weight_cls"].current() >= 1


def test_an_interval_keeps_the_weights_in_between(make_config, train) -> None:
    runner = train(
        make_config("retinanet", combiner_config("MGDA", interval=3), iterations=5,
                    default_hooks__logger__interval=1)
    )  # fmt: skip
    weights = runner.message_hub.log_scalars["train/weight_cls"]._log_history.tolist()
    assert weights[0] == weights[1] == weights[2] != weights[3] == weights[4]


def test_the_table_of_methods_is_whole() -> None:
    for name in GRADIENT_COMBINERS:
        known = plain_gradients.reference_of(name) is not None or hasattr(aggregation, name)
        assert known or name == "GradNorm", name
