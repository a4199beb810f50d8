"""Non-finite losses, turns, accumulation, loss scaling, checkpointing, several optimizers."""

from itertools import pairwise

import pytest
import torch
from helpers.mmdet_support import assert_close, assert_same, combiner_config
from mmengine.hooks import Hook
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner

from lossweave.combiners import build_combiner
from lossweave.errors import LossweaveError


def _poison(model, at: set[int], key: str = "loss_bbox", value: float = torch.nan) -> None:
    """Make a raw loss non-finite in the given calls."""
    stock, calls = model.loss, [0]

    def loss(*args, **kwargs):
        losses = stock(*args, **kwargs)
        if calls[0] in at:
            losses[key] = [v * value for v in losses[key]]
        calls[0] += 1
        return losses

    model.loss = loss


def _snapshot(runner: Runner) -> dict[str, torch.Tensor]:
    state = {k: v.clone() for k, v in runner.model.state_dict().items() if "running" not in k}
    for number, s in enumerate(runner.optim_wrapper.optimizer.state.values()):
        if s.get("momentum_buffer") is not None:
            state[f"momentum{number}"] = s["momentum_buffer"].clone()
    return {k: v for k, v in state.items() if "num_batches" not in k}


class _Snapshots(Hook):
    priority = "LOWEST"

    def __init__(self) -> None:
        self.taken: list[dict[str, torch.Tensor]] = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        self.taken.append(_snapshot(runner))


@pytest.mark.parametrize("name", ["Sum", "UncertaintyWeighting"])
def test_raise_names_the_term_and_the_iteration(name, make_config) -> None:
    runner = Runner.from_cfg(make_config("retinanet", combiner_config(name)))
    _poison(runner.model, {2})
    with pytest.raises(
        LossweaveError, match=r"iteration 2: loss_bbox \(term 'loc'\) is nan.*on_nonfinite='skip'"
    ):
        runner.train()


def test_raise_names_an_overflow_of_the_combination(make_config) -> None:
    runner = Runner.from_cfg(make_config("retinanet", "SquaredSum"))
    _poison(runner.model, {1}, value=1e30)
    with pytest.raises(LossweaveError, match="iteration 1: loss is inf; the terms are finite"):
        runner.train()


@pytest.mark.parametrize("name", ["Sum", "UncertaintyWeighting", "FAMO", "DWA"])
def test_skip_leaves_everything_as_it_was(name, make_config) -> None:
    cfg = make_config("retinanet", combiner_config(name), model=dict(on_nonfinite="skip"))
    runner = Runner.from_cfg(cfg)
    _poison(runner.model, {2})
    snapshots = _Snapshots()
    runner.register_hook(snapshots)
    runner.train()
    before, skipped, after = snapshots.taken[1:4]
    assert_same(before, skipped)
    assert any(not torch.equal(skipped[k], after[k]) for k in skipped)
    assert runner.message_hub.log_scalars["train/skipped_updates"].current() == 1


def test_skip_drops_the_whole_accumulation_window(make_config) -> None:
    cfg = make_config(
        "retinanet", combiner_config("IMTLL"), model=dict(on_nonfinite="skip"), iterations=6,
        optim_wrapper__accumulative_counts=2,
    )  # fmt: skip
    runner = Runner.from_cfg(cfg)
    _poison(runner.model, {2})
    snapshots = _Snapshots()
    runner.register_hook(snapshots)
    runner.train()
    own = [{k: v for k, v in s.items() if "window" not in k} for s in snapshots.taken]
    assert_same(own[1], own[3])
    assert any(not torch.equal(own[3][k], own[5][k]) for k in own[3])


def test_missing_hook_is_said_with_the_line(make_config) -> None:
    runner = Runner.from_cfg(make_config("retinanet", "Alternating", hook=False))
    with pytest.raises(LossweaveError, match=r"Alternating needs the lossweave hook.*CombinerHook"):
        runner.train()


@pytest.mark.parametrize("inactive", ["hold", "zero"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_turns(inactive, accumulate, make_config) -> None:
    """Under `hold` the idle branch does not move, not by momentum, not by weight decay."""
    cfg = make_config(
        "retinanet", combiner_config("Alternating", inactive=inactive),
        iterations=6 * accumulate, optim_wrapper__accumulative_counts=accumulate,
    )  # fmt: skip
    runner = Runner.from_cfg(cfg)
    snapshots = _Snapshots()
    runner.register_hook(snapshots)
    runner.train()
    updates = snapshots.taken[accumulate - 1 :: accumulate]
    for turn, (one, two) in enumerate(pairwise(updates), start=1):
        active, idle = ("cls", "reg") if turn % 2 == 0 else ("reg", "cls")
        moved = {b: not torch.equal(one[k], two[k]) for b in (active, idle)
                 for k in [f"bbox_head.{b}_convs.0.conv.weight"]}  # fmt: skip
        assert moved[active]
        assert moved[idle] == (inactive == "zero")
        key = "backbone.layer4.0.conv1.weight"
        assert not torch.equal(one[key], two[key])


def _gradients(model, batch, scale: float = 1.0) -> dict[str, torch.Tensor]:
    model.zero_grad()
    torch.manual_seed(3)
    data = model.data_preprocessor(batch, True)
    root, _ = model.parse_losses(model(**data, mode="loss"))
    (root * scale).backward()
    return {n: p.grad / scale for n, p in model.named_parameters() if p.grad is not None}


@pytest.fixture
def batch(make_config):
    runner = Runner.from_cfg(make_config("retinanet", "Sum", "for_its_data"))
    return next(iter(runner.build_dataloader(runner.cfg.train_dataloader)))


def _build(cfg):
    init_default_scope("mmdet")
    torch.manual_seed(0)
    return MODELS.build(cfg.model).train()


def test_incoming_scale_passes_through(make_config, batch) -> None:
    """A loss scaler's factor, and the division by accumulated iterations."""
    model = _build(make_config("retinanet", "GeometricMean"))
    plain, scaled = _gradients(model, batch), _gradients(model, batch, 2.0**12)
    assert_close(plain, scaled)


class _Start(Hook):
    """Keeps the weights that training begins with."""

    def before_train(self, runner) -> None:
        self.weights = {n: p.clone() for n, p in runner.model.named_parameters()}


@pytest.mark.parametrize(
    ("combiner", "exponent"),
    # Losses near 1000 at a scale of 2^127 leave float32's range in each of the 4 iterations.
    [(dict(type="Sum", weights=[1000.0, 1000.0]), 127), ("UncertaintyWeighting", 10)],
    ids=["overflow", "fits"],
)
def test_real_loss_scaler(combiner, exponent, make_config, monkeypatch) -> None:
    """AmpOptimWrapper, with a scaler that works on a CPU: overflows skip the step as always."""
    monkeypatch.setattr(
        "mmengine.optim.optimizer.amp_optimizer_wrapper.is_cuda_available", lambda: True
    )
    amp = dict(optim_wrapper__type="AmpOptimWrapper", optim_wrapper__dtype="bfloat16")
    cfg = make_config("retinanet", combiner, **amp)
    # On a CPU, torch's bfloat16 gradient of a convolution over a single pixel is not reliable.
    cfg.train_dataloader.dataset.pipeline[2].scale = (256, 256)
    runner = Runner.from_cfg(cfg)
    runner.optim_wrapper = runner.build_optim_wrapper(runner.cfg.optim_wrapper)
    runner.optim_wrapper.loss_scaler = torch.amp.GradScaler("cpu", init_scale=2.0**exponent)
    start = _Start()
    runner.register_hook(start)
    runner.train()
    weights = dict(runner.model.named_parameters())
    moved = any(not torch.equal(start.weights[n], weights[n]) for n in weights)
    overflowed = exponent == 127
    assert moved != overflowed
    assert runner.optim_wrapper.loss_scaler.get_scale() == 2.0 ** (123 if overflowed else 10)
    assert all(p.isfinite().all() for p in weights.values())


@pytest.mark.parametrize("name", ["SquaredSum", "GeometricMean"])
def test_activation_checkpointing(name, make_config, batch) -> None:
    model = _build(make_config("retinanet", name))
    plain = _gradients(model, batch)
    cfg = make_config("retinanet", name, "checkpointed")
    cfg.model.backbone.with_cp = True
    checkpointed = _build(cfg)
    checkpointed.load_state_dict(model.state_dict())
    again = _gradients(checkpointed, batch)
    assert_close(plain, again)


def test_gradient_is_the_weighted_sum_of_the_terms_gradients(make_config, batch) -> None:
    model = _build(make_config("retinanet", "Product"))
    found = _gradients(model, batch)
    torch.manual_seed(3)
    data = model.data_preprocessor(batch, True)
    losses = model(**data, mode="loss")
    cls, loc = sum(losses["loss_cls"]), sum(losses["loss_bbox"])
    parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
    by_term = [
        torch.autograd.grad(t, list(parameters.values()), retain_graph=True, allow_unused=True)
        for t in (cls, loc)
    ]
    combiner = build_combiner("Product")
    combiner.bind(("cls", "loc"))
    values = torch.stack([cls.detach(), loc.detach()])
    _, weights = combiner.combine(values, torch.tensor([True, True]))
    expected = {
        name: sum(w * g[i] for w, g in zip(weights, by_term, strict=True) if g[i] is not None)
        for i, name in enumerate(parameters)
    }
    assert_close(found, expected)


def test_the_hook_serves_a_stock_model(make_config, train) -> None:
    cfg = make_config("retinanet", None)
    cfg.default_hooks.lossweave = dict(type="lossweave.CombinerHook")
    assert train(cfg).iter == 4
