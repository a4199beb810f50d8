"""The plain sum is the stock training to the last bit."""

from typing import Any

import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.engine import AMPTrainer, SimpleTrainer
from detectron2.modeling import build_model
from detectron2.solver import build_optimizer
from helpers.mmdet_support import assert_same, combiner_config

from lossweave.detectron2 import CombinerHook, build_numbered_train_loader

ITERATIONS = 20


class Bfloat16Trainer(SimpleTrainer):
    """The step of an AMPTrainer, which itself runs on a GPU alone: the sum is in autocast."""

    def run_step(self) -> None:
        with torch.autocast("cpu", torch.bfloat16):
            super().run_step()


def _trained(cfg: Any, trainer_class: type, hooks: list[Any]) -> Any:
    torch.manual_seed(0)
    model = build_model(cfg)
    trainer = trainer_class(
        model, build_numbered_train_loader(cfg), build_optimizer(cfg, model)
    )
    trainer.register_hooks(hooks)
    trainer.train(0, ITERATIONS)
    return trainer


def _state(trainer: Any) -> dict[str, torch.Tensor]:
    state = trainer.model.state_dict()
    return {k: v for k, v in state.items() if not k.startswith("loss_combination")}


def _logged(trainer: Any) -> dict[str, list[float]]:
    histories = trainer.storage.histories()
    return {
        name: [value for value, _ in history.values()]
        for name, history in histories.items()
        if "time" not in name and not name.startswith(("term_", "weight_"))
    }


@pytest.mark.parametrize(
    ("kind", "hooked"),
    [(SimpleTrainer, True), (SimpleTrainer, False), (Bfloat16Trainer, True)],
    ids=["hook", "no hook", "bfloat16"],
)
@pytest.mark.parametrize("detector", ["retinanet", "faster_rcnn"])
def test_sum_is_stock(make_cfg, detector, kind, hooked) -> None:
    changes = {}
    if kind is Bfloat16Trainer and detector == "retinanet":
        # On maps of one pixel PyTorch's bfloat16 convolution does not repeat itself.
        changes["MODEL__RETINANET__IN_FEATURES"] = ["p3", "p4", "p5"]
        changes["MODEL__ANCHOR_GENERATOR__SIZES"] = [[16], [32], [64]]
    stock = _trained(make_cfg(detector, **changes), kind, [])
    hooks = [CombinerHook()] if hooked else []
    ours = _trained(make_cfg(detector, dict(type="Sum"), **changes), kind, hooks)
    assert type(ours.model).__bases__[1] is type(stock.model)
    assert_same(_state(stock), _state(ours))
    assert _logged(stock) == _logged(ours)
    momentum = [s.optimizer.state_dict()["state"] for s in (stock, ours)]
    for key, entry in momentum[0].items():
        assert torch.equal(entry["momentum_buffer"], momentum[1][key]["momentum_buffer"])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="AMPTrainer needs a GPU")
@pytest.mark.parametrize("detector", ["retinanet", "faster_rcnn"])
def test_sum_is_stock_under_amp(make_cfg, detector) -> None:
    torch.use_deterministic_algorithms(True, warn_only=True)
    cfgs = make_cfg(detector), make_cfg(detector, dict(type="Sum"))
    for cfg in cfgs:
        cfg.MODEL.DEVICE = "cuda"
    stock, ours = _trained(cfgs[0], AMPTrainer, []), _trained(cfgs[1], AMPTrainer, [CombinerHook()])
    assert_same(_state(stock), _state(ours))
    assert _logged(stock) == _logged(ours)


def test_the_comparison_can_fail(make_cfg) -> None:
    stock = _state(_trained(make_cfg("retinanet"), SimpleTrainer, []))
    other = _state(_trained(make_cfg("retinanet", dict(type="SquaredSum")), SimpleTrainer, []))
    assert any(not torch.equal(stock[key], other[key]) for key in stock)


def test_checkpoints_fit_both_ways(make_cfg, tmp_path) -> None:
    cfg = make_cfg("retinanet", combiner_config("UncertaintyWeighting"))
    ours = _trained(cfg, SimpleTrainer, [CombinerHook()]).model
    stock = build_model(make_cfg("retinanet"))
    DetectionCheckpointer(ours, str(tmp_path)).save("ours")
    DetectionCheckpointer(stock).load(str(tmp_path / "ours.pth"))
    back = build_model(cfg)
    DetectionCheckpointer(stock, str(tmp_path)).save("stock")
    DetectionCheckpointer(back).load(str(tmp_path / "stock.pth"))
    for key, value in stock.state_dict().items():
        assert torch.equal(value, ours.state_dict()[key])
        assert torch.equal(value, back.state_dict()[key])
