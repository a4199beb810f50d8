"""Sum is the stock detector, bit for bit: losses, gradients, log keys and weights."""

import pytest
import torch
from helpers.mmdet_support import assert_same, stock_state
from mmengine.hooks import Hook


class Recorder(Hook):
    """Keeps every iteration's logged losses, and the gradients that the optimizer saw."""

    priority = "LOWEST"

    def __init__(self) -> None:
        self.losses: list[dict[str, float]] = []
        self.grads: list[dict[str, torch.Tensor]] = []

    def before_train(self, runner) -> None:
        def keep(*_) -> None:
            named = runner.model.named_parameters()
            self.grads.append({n: p.grad.clone() for n, p in named if p.grad is not None})

        runner.optim_wrapper.optimizer.register_step_pre_hook(keep)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        self.losses.append({k: float(v) for k, v in outputs.items()})


@pytest.mark.parametrize("seeded", [False, True], ids=["stock order", "numbered draws"])
@pytest.mark.parametrize("detector", ["retinanet", "ssd", "faster_rcnn"])
def test_sum_is_stock(detector, seeded, make_config) -> None:
    from mmengine.runner import Runner

    iterations = 20 if not seeded else 3
    found = []
    for combiner in (None, "Sum"):
        cfg = make_config(detector, combiner, f"{combiner}", iterations=iterations, seeded=seeded)
        if seeded and combiner is None:
            # The hook seeds the main process, too; it serves a stock model as well.
            cfg.default_hooks.lossweave = dict(type="lossweave.CombinerHook")
        runner = Runner.from_cfg(cfg)
        recorder = Recorder()
        runner.register_hook(recorder)
        runner.train()
        found.append((recorder, stock_state(runner)))
    (stock, stock_weights), (combined, combined_weights) = found
    assert len(stock.losses) == iterations
    assert stock.losses == combined.losses  # the same keys with the same bits
    for one, two in zip(stock.grads, combined.grads, strict=True):
        assert_same(one, two)
    assert_same(stock_weights, combined_weights)


def test_the_comparison_can_fail(make_config, train) -> None:
    stock = stock_state(train(make_config("retinanet", None, "stock")))
    other = stock_state(train(make_config("retinanet", "SquaredSum", "other")))
    assert any(not torch.equal(stock[k], other[k]) for k in stock)


def test_log_keys_stay_and_weights_are_logged_beside(make_config, train) -> None:
    stock = train(make_config("faster_rcnn", None, "stock"))
    combined = train(make_config("faster_rcnn", "UncertaintyWeighting", "uw"))
    keys = set(stock.message_hub.log_scalars)
    more = set(combined.message_hub.log_scalars) - keys
    assert keys <= set(combined.message_hub.log_scalars)
    assert more == {
        "train/term_cls",
        "train/term_loc",
        "train/weight_cls",
        "train/weight_loc",
    }
    assert not any("loss" in key for key in more)
    # The raw losses are logged as they are, `loss` is what was optimised.
    scalars = combined.message_hub.log_scalars
    raw = sum(
        scalars[f"train/{k}"].current()
        for k in ("loss_rpn_cls", "loss_rpn_bbox", "loss_cls", "loss_bbox")
    )
    assert scalars["train/loss"].current() < raw
