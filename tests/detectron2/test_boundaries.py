"""Boundaries that catch nothing, and what was found for 'representation' over a training."""

from typing import Any

import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from helpers.detectron2_gradients import MODULES
from helpers.detectron2_toy import forward, image_batch
from helpers.mmdet_support import combiner_config

from lossweave.errors import LossweaveError
from lossweave.progress import Progress

REPRESENTATION = combiner_config("PCGrad", boundary="representation")


def _backward(model: Any) -> None:
    model.loss_combination.set_progress(Progress())
    total = forward(model, image_batch(0))
    sum(total.values() if isinstance(total, dict) else [total]).backward()


@pytest.mark.parametrize(
    ("boundary", "message"),
    [
        ("head.cls_subnet", ""),  # a Sequential is called: it is a boundary
        ("loss_combination", "no module matches 'loss_combination'"),  # none of the detector's
        ("anchor_generator", "'anchor_generator' returned no tensor that carries a gradient"),
    ],
)
def test_a_boundary_that_catches_nothing_is_refused(boundary: str, message: str, build) -> None:
    where = [boundary, "head.bbox_subnet"] if not message else [boundary]
    combiner = dict(type="PCGrad", boundary=where)
    if not message:
        _backward(build("retinanet", combiner))
        return
    with pytest.raises(LossweaveError, match=message) as caught:
        _backward(build("retinanet", combiner))
    assert "\n" not in str(caught.value)


def test_what_was_found_goes_through_the_checkpointer(build, tmp_path, caplog) -> None:
    model = build("faster_rcnn", REPRESENTATION)
    DetectionCheckpointer(model, str(tmp_path)).save("before")
    _backward(model)
    found = model.loss_combination.boundary.found
    assert set(found) == set(MODULES["faster_rcnn"])
    DetectionCheckpointer(model, str(tmp_path)).save("after")
    for name, expected in (("after", found), ("before", None)):
        other = build("faster_rcnn", REPRESENTATION)
        left = DetectionCheckpointer(other).load(str(tmp_path / f"{name}.pth"))
        assert "model" not in left
        assert other.loss_combination.boundary.found == expected
    assert "Skip loading parameter" not in caplog.text
    retinanet = build("retinanet", REPRESENTATION)
    DetectionCheckpointer(retinanet).load(str(tmp_path / "after.pth"))
    _backward(retinanet)
    assert retinanet.loss_combination.boundary.found == ()


def test_freezing_and_thawing_look_anew(build) -> None:
    model = build("faster_rcnn", REPRESENTATION)
    boundary = model.loss_combination.boundary
    shapes = {k: v.shape for k, v in model.state_dict().items()}
    _backward(model)
    both = boundary.found
    model.backbone.requires_grad_(False)
    model.proposal_generator.requires_grad_(False)
    _backward(model)
    assert len(boundary.found) == 1 and set(boundary.found) < set(both)
    model.proposal_generator.requires_grad_(True)
    _backward(model)
    assert boundary.found == both
    assert {k: v.shape for k, v in model.state_dict().items()} == shapes
    assert not torch.equal(model.loss_combination.boundary_state.found, torch.zeros(1))


@pytest.mark.parametrize("boundary", ["features", "representation"])
def test_two_forwards_before_a_backward(boundary: str, build) -> None:
    model = build("retinanet", combiner_config("PCGrad", boundary=boundary))
    _backward(model)
    expected: dict[str, torch.Tensor] = {}
    for together in (False, True):
        model.zero_grad()
        model.loss_combination.set_progress(Progress(iteration=1))
        normalizer = model.loss_normalizer
        totals = [forward(model, image_batch(number))["total_loss"] for number in (0, 1)]
        model.loss_normalizer = normalizer
        if together:
            sum(totals).backward()
        else:
            for total in totals:
                total.backward()
        for name, parameter in model.named_parameters():
            if not together:
                expected[name] = parameter.grad.clone()
            else:
                torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-5, atol=1e-7)
