"""Terms by head, loss, layer and level on MMDetection's detectors, and what the tools take."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from helpers.mmdet_support import image_batch
from mmdet.models.detectors import RetinaNet
from mmdet.registry import MODELS
from mmengine.registry import init_default_scope
from torch import Tensor

from lossweave.errors import LossweaveError
from lossweave.mmdet.configs import with_combiner


def _step(model: Any) -> tuple[Tensor, dict[str, Tensor]]:
    model.zero_grad(set_to_none=True)
    torch.manual_seed(7)
    batch = model.data_preprocessor(image_batch(0), True)
    total, _ = model.parse_losses(model(**batch, mode="loss"))
    total.backward()
    return total, {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("terms", ["loss", "level", dict(fine="loss_*[0]", rest="loss_*")])
def test_weights_of_one_give_the_stock_gradient(build, terms: Any) -> None:
    stock = build("retinanet", None)
    total, expected = _step(stock)
    combiner = dict(type="Sum", weights=1)
    model = build("retinanet", combiner, stock.state_dict(), model=dict(terms=terms))
    root, found = _step(model)
    torch.testing.assert_close(root, total)
    assert found.keys() == expected.keys()
    for name, grad in expected.items():
        torch.testing.assert_close(found[name], grad, rtol=1e-4, atol=1e-6)
    names = {"loss": ("cls", "bbox"), "level": tuple(f"level{k}" for k in range(5))}
    assert model.loss_combination.names == names.get(str(terms), ("fine", "rest"))


def test_a_level_of_weight_zero_trains_nothing_there(build) -> None:
    weights = [1, 0, 0, 0, 0]
    model = build("retinanet", dict(type="Sum", weights=weights), model=dict(terms="level"))
    _, grads = _step(model)
    first = {n: g.clone() for n, g in grads.items() if "fpn_convs" in n}
    assert first["neck.fpn_convs.0.conv.weight"].any()
    assert not any(first[f"neck.fpn_convs.{k}.conv.weight"].any() for k in range(1, 5))


@pytest.mark.parametrize("terms", ["level", dict(cls="loss_cls[0]", loc="loss_bbox")])
def test_lists_with_an_entry_an_image_have_no_levels(build, terms: Any) -> None:
    with pytest.raises(LossweaveError, match="SSDHead are lists with an entry an image, not a l"):
        build("ssd", "Sum", model=dict(terms=terms))


@pytest.mark.parametrize(
    ("detector", "combiner", "names"),
    [
        ("faster_rcnn", dict(type="Sum", weights=[1, 1, 2, 2]),
         ("rpn_cls", "rpn_loc", "roi_cls", "roi_loc")),
        ("retinanet", dict(type="Convex", alpha=0.5), ("cls", "loc")),
    ],
)  # fmt: skip
def test_arguments_for_the_detectors_own_heads(
    make_config, detector: str, combiner: dict[str, Any], names: tuple[str, ...]
) -> None:
    arguments = dict(combiner)
    cfg = with_combiner(make_config(detector), arguments.pop("type"), arguments, "head")
    init_default_scope("mmdet")
    model = MODELS.build(cfg.model)
    assert model.loss_combination.names == names


def test_arguments_that_do_not_fit_the_heads_are_refused(build) -> None:
    with pytest.raises(LossweaveError, match="4 entries for the 2 terms"):
        build("retinanet", dict(type="Sum", weights=[1, 1, 2, 2]), model=dict(terms="head"))


@pytest.fixture
def otherwise_named() -> Iterator[str]:
    """A detector whose losses are not named after classification and boxes."""

    class OtherwiseNamed(RetinaNet):
        def loss(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
            losses = super().loss(*args, **kwargs)
            return {"loss_pos": losses["loss_cls"], "loss_neg": losses["loss_bbox"]}

    MODELS.register_module(module=OtherwiseNamed)
    yield "OtherwiseNamed"
    del MODELS._module_dict["OtherwiseNamed"]


def test_the_tools_take_each_loss_where_the_names_say_nothing(
    make_config, otherwise_named: str
) -> None:
    cfg = make_config("retinanet")
    cfg.model.type = otherwise_named
    init_default_scope("mmdet")
    torch.manual_seed(0)
    model = MODELS.build(with_combiner(cfg, "UncertaintyWeighting").model).train()
    said: list[str] = []
    model.loss_combination.log = said.append
    _step(model)
    assert model.loss_combination.names == ("pos", "neg")
    assert len([line for line in said if "is a term (terms='loss')" in line]) == 1


def test_a_config_that_names_task_is_refused(make_config, otherwise_named: str) -> None:
    cfg = with_combiner(make_config("retinanet"), "Sum", terms="task")
    cfg.model.base_detector = otherwise_named
    init_default_scope("mmdet")
    model = MODELS.build(cfg.model).train()
    with pytest.raises(LossweaveError, match=r"no entry for term 'cls'; the detector's losses "
                       r"are: loss_pos, loss_neg; name the terms .*terms='loss'"):  # fmt: skip
        _step(model)
