"""Boundaries that catch nothing, and what was found for 'representation' over a training."""

from typing import Any

import pytest
import torch
from helpers.mmdet_support import combiner_config, image_batch
from helpers.plain_gradients import MODULES
from mmengine.runner import Runner, load_checkpoint

from lossweave.errors import LossweaveError
from lossweave.progress import Progress

REPRESENTATION = combiner_config("PCGrad", boundary="representation")


def _backward(model: Any) -> None:
    model.loss_combination.set_progress(Progress())
    losses = model(**model.data_preprocessor(image_batch(0), True), mode="loss")
    model.parse_losses(losses)[0].backward()


@pytest.mark.parametrize(
    ("boundary", "message"),
    [
        ("bbox_head.cls_convs", r"'bbox_head.cls_convs' returned no tensor .* below it these do: "
                                r"bbox_head.cls_convs.0, bbox_head.cls_convs.0.activate, "),
        ("loss_combination", "no module matches 'loss_combination'"),  # none of the detector's
        ("data_preprocessor", "'data_preprocessor' returned no tensor that carries a gradient"),
    ],
)  # fmt: skip
def test_a_boundary_that_catches_nothing_is_refused(boundary: str, message: str, build) -> None:
    with pytest.raises(LossweaveError, match=message) as caught:
        _backward(build("retinanet", dict(type="PCGrad", boundary=[boundary])))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("boundary", ["features", "representation"])
def test_a_forward_that_goes_around_the_features_is_refused(boundary: str, build) -> None:
    model = build("retinanet", combiner_config("PCGrad", boundary=boundary))

    def loss(inputs: Any, samples: Any) -> Any:
        return model.bbox_head.loss(model.neck(model.backbone(inputs)), samples)

    model.loss = loss
    with pytest.raises(LossweaveError, match="handed over no features"):
        _backward(model)


def test_freezing_and_thawing_look_anew(build) -> None:
    model = build("faster_rcnn", REPRESENTATION)
    boundary = model.loss_combination.boundary
    shapes = {k: v.shape for k, v in model.state_dict().items()}
    _backward(model)
    assert set(boundary.found) == set(MODULES["faster_rcnn"])
    for part in (model.backbone, model.neck, model.rpn_head):
        part.requires_grad_(False)
    _backward(model)
    assert boundary.found == (MODULES["faster_rcnn"][1],)  # the RPN's part carries no gradient
    for part in (model.neck, model.rpn_head):
        part.requires_grad_(True)
    _backward(model)
    assert set(boundary.found) == set(MODULES["faster_rcnn"])
    assert {k: v.shape for k, v in model.state_dict().items()} == shapes


def test_weights_of_a_detector_with_other_names_are_no_hindrance(build, tmp_path) -> None:
    model = build("faster_rcnn", REPRESENTATION)
    _backward(model)
    torch.save({"state_dict": model.state_dict(), "meta": {}}, tmp_path / "two_stages.pth")
    other = build("retinanet", REPRESENTATION)
    load_checkpoint(other, str(tmp_path / "two_stages.pth"), map_location="cpu")
    _backward(other)
    assert other.loss_combination.boundary.found == ()  # RetinaNet shares nothing above


def test_an_average_of_the_model_with_its_buffers_trains_and_resumes(make_config) -> None:
    for iterations in (2, 4):
        cfg = make_config("faster_rcnn", REPRESENTATION, iterations=iterations)
        cfg.custom_hooks = [
            dict(type="EMAHook", ema_type="ExpMomentumEMA", update_buffers=True, momentum=0.1)
        ]
        cfg.resume = iterations > 2
        runner = Runner.from_cfg(cfg)
        runner.train()
        assert runner.iter == iterations
        found = runner.model.loss_combination.boundary.found
        assert set(found) == set(MODULES["faster_rcnn"])


@pytest.mark.parametrize("boundary", ["features", "representation", ["neck"], "parameters"])
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_two_forwards_before_their_losses_are_combined(boundary, order, build) -> None:
    """As semi-supervised detectors do it: at the boundary of the forward that made them."""
    model = build("retinanet", combiner_config("PCGrad", boundary=boundary))
    _backward(model)  # what 'representation' is gets found

    def losses(number: int) -> Any:
        data = model.data_preprocessor(image_batch(number), True)
        return model(**data, mode="loss")

    expected: dict[str, torch.Tensor] = {}
    for together in (False, True):
        model.zero_grad()
        model.loss_combination.set_progress(Progress(iteration=1))
        if together:
            found = [losses(number) for number in order]
            sum(model.parse_losses(found[order.index(number)])[0] for number in (0, 1)).backward()
        else:
            for number in order:
                model.parse_losses(losses(number))[0].backward()
        grads = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        for name, grad in grads.items():
            if together:
                torch.testing.assert_close(grad, expected[name], rtol=1e-5, atol=1e-7)
            else:
                expected[name] = grad.clone()
    assert len(expected) > 20


def test_losses_of_a_forward_long_ago_are_refused(build) -> None:
    model = build("retinanet", combiner_config("PCGrad", boundary="features"))
    data = model.data_preprocessor(image_batch(0), True)
    model.loss_combination.set_progress(Progress())
    found = [model(**data, mode="loss") for _ in range(5)]
    with pytest.raises(LossweaveError, match=r"not of the last 4 forwards.*parse_losses.*before"):
        model.parse_losses(found[0])
    model.parse_losses(found[1])[0].backward()
