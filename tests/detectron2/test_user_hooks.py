"""Hooks of a user's on a detector: each sees one backward a step, at every boundary."""

import copy
from typing import Any

import pytest
import torch
from helpers.detectron2_gradients import MODULES
from helpers.detectron2_toy import forward, image_batch
from helpers.mmdet_support import combiner_config
from helpers.user_hooks import UserHooks

from lossweave.errors import LossweaveError

HEADS = {
    "retinanet": ("head", "head.cls_score"),
    "faster_rcnn": ("proposal_generator.rpn_head.conv", "proposal_generator.rpn_head.conv"),
}
CASES = [
    (name, boundary, detector)
    for name in ("PCGrad", "MGDA", "GradNorm", "GradDrop")
    for boundary in ("parameters", "features", "representation", "named")
    for detector in HEADS
    if boundary != "named" or detector == "faster_rcnn"
]


def _grads(model: Any) -> dict[str, torch.Tensor]:
    total = forward(model, image_batch(0))
    losses = total.values() if isinstance(total, dict) else [total]
    sum(losses).backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(("name", "boundary", "detector"), CASES)
def test_each_is_called_once_and_acts_once(name: str, boundary: Any, detector: str, build) -> None:
    head, layer = HEADS[detector]
    where = list(MODULES["faster_rcnn"]) if boundary == "named" else boundary
    model = build(detector, combiner_config(name, boundary=where))
    hooked = copy.deepcopy(model)
    plain = _grads(model)
    hooks = UserHooks(hooked, "backbone", head, factor=0.5)
    scaled = {"backbone.fpn_lateral3.weight": 0.1, f"{layer}.weight": 3.0}
    for parameter, factor in scaled.items():
        hooked.get_parameter(parameter).register_hook(hooks.hook(parameter, factor))
    if name == "GradDrop" and boundary == "parameters":
        with pytest.raises(LossweaveError, match="element by element, so a hook on a tensor"):
            _grads(hooked)
        return
    if name != "GradDrop":  # which refuses hooks on what lies between
        hooks.on_module(hooked.get_submodule(layer), "module")
    found = _grads(hooked)
    assert hooks.calls["below"] == hooks.tensors["below"] > 0
    assert hooks.calls["features"] == hooks.tensors["features"] > 0
    assert all(hooks.calls[parameter] == 1 for parameter in scaled)
    if name != "GradDrop":
        assert hooks.calls["module"] == hooks.tensors["features"]
    if detector == "retinanet":  # all that is below the head goes through the hooks on features
        for key in plain:
            factor = scaled.get(key, 1.0) * (1.0 if key.startswith("head") else 0.5)
            error = (found[key] - factor * plain[key]).abs().max()
            # Without an alias of the features, the hook on P6 sees what comes by P7, too.
            tolerance = 1e-3 if boundary == "parameters" else 1e-5
            assert error <= tolerance * plain[key].abs().max() + 1e-7, key
