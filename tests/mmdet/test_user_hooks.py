"""Hooks of a user's on a detector: each sees one backward a step, at every boundary."""

import copy
from typing import Any

import pytest
import torch
from helpers.mmdet_support import combiner_config, image_batch
from helpers.user_hooks import UserHooks
from mmengine.optim import OptimWrapper

from lossweave.errors import LossweaveError

MODULES = {
    "retinanet": ("neck", "bbox_head", "bbox_head.retina_cls"),
    "faster_rcnn": ("neck", "rpn_head.rpn_conv", "rpn_head.rpn_conv"),
}
NAMED = ["rpn_head.rpn_conv", "roi_head.bbox_head.shared_fcs.1"]
LATERAL = "neck.lateral_convs.0.conv.weight"
CASES = [
    (name, boundary, detector)
    for name in ("Sum", "PCGrad", "MGDA", "GradNorm", "GradDrop")
    for boundary in ("parameters", "features", "representation", NAMED)
    for detector in MODULES
    if (name != "Sum" or boundary == "parameters")
    and (boundary != NAMED or detector == "faster_rcnn")
]


def _config(name: str, boundary: Any) -> dict[str, Any]:
    return combiner_config(name) if name == "Sum" else combiner_config(name, boundary=boundary)


def _step(model: Any, hooks: UserHooks | None = None) -> dict[str, torch.Tensor]:
    torch.manual_seed(7)
    losses = model(**model.data_preprocessor(image_batch(0), True), mode="loss")
    if hooks is not None:
        hooks.on_losses(losses)
    model.parse_losses(losses)[0].backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(("name", "boundary", "detector"), CASES)
def test_each_is_called_once_and_acts_once(name: str, boundary: Any, detector: str, build) -> None:
    below, head, layer = MODULES[detector]
    model = build(detector, _config(name, boundary))
    hooked = copy.deepcopy(model)
    plain = _step(model)
    scaled = {LATERAL: 0.1, f"{layer}.weight": 3.0}
    hooks = UserHooks(hooked, below, head, factor=0.5)
    for parameter, factor in scaled.items():
        hooked.get_parameter(parameter).register_hook(hooks.hook(parameter, factor))
    if name != "GradDrop":  # which refuses hooks on what lies between
        hooks.on_module(hooked.get_submodule(layer), "module")
    if name == "GradDrop" and boundary == "parameters":
        with pytest.raises(LossweaveError, match="element by element, so a hook on a tensor"):
            _step(hooked)
        return
    found = _step(hooked, None if name == "GradDrop" else hooks)
    calls = hooks.tensors["features"]
    assert hooks.calls["below"] == hooks.tensors["below"] > 0
    assert hooks.calls["features"] == calls > 0
    assert hooks.calls["losses"] == hooks.tensors["losses"]
    assert all(hooks.calls[parameter] == 1 for parameter in scaled)
    if name != "GradDrop":
        assert hooks.calls["module"] == calls  # the layer is called for each feature
    if detector == "retinanet":  # all that is below the head goes through the hooks on features
        for key in plain.keys() - {"neck.fpn_convs.3.conv.weight", "neck.fpn_convs.3.conv.bias"}:
            factor = scaled.get(key, 1.0) * (1.0 if key.startswith("bbox_head") else 0.5)
            error = (found[key] - factor * plain[key]).abs().max()
            # Without an alias of the features, the hook on P6 sees what comes by P7, too.
            tolerance = 1e-3 if boundary == "parameters" else 1e-5
            assert error <= tolerance * plain[key].abs().max() + 1e-7, key


def test_a_step_of_the_framework_calls_them_once(build) -> None:
    model = build("retinanet", combiner_config("MGDA"))
    hooks = UserHooks(model, "neck", "bbox_head")
    weight = model.get_parameter(LATERAL)
    weight.register_hook(hooks.hook("leaf"))
    weight.register_post_accumulate_grad_hook(lambda leaf: hooks.calls.update(["accumulated"]))
    optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.01))
    for step in range(1, 4):
        model.train_step(image_batch(0), optimizer)
        assert hooks.calls["leaf"] == hooks.calls["accumulated"] == step
        assert hooks.calls["features"] == hooks.tensors["features"]
        assert hooks.calls["below"] == hooks.tensors["below"]
