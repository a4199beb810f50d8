"""The plain sum is the stock training to the last bit."""

from typing import Any

import pytest
import torch
from detectron2.engine import SimpleTrainer
from detectron2.modeling import build_model
from detectron2.solver import build_optimizer
from support import assert_same

from lossweave.detectron2 import CombinerHook, build_numbered_train_loader

ITERATIONS = 20


def _trained(cfg: Any, trainer_class: type, hooks: list[Any], bad: bool = False) -> Any:
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


@pytest.mark.parametrize("hooked", [True, False])
@pytest.mark.parametrize("detector", ["retinanet", "faster_rcnn"])
def test_sum_is_stock(make_cfg, detector, hooked) -> None:
    stock = _trained(make_cfg(detector), SimpleTrainer, [])
    hooks = [CombinerHook()] if hooked else []
    ours = _trained(make_cfg(detector, dict(type="Sum")), SimpleTrainer, hooks)
    assert type(ours.model).__bases__[1] is type(stock.model)
    assert_same(_state(stock), _state(ours))
    assert _logged(stock) == _logged(ours)
    momentum = [s.optimizer.state_dict()["state"] for s in (stock, ours)]
    for key, entry in momentum[0].items():
        assert torch.equal(entry["momentum_buffer"], momentum[1][key]["momentum_buffer"])
