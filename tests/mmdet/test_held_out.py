"""What the hook tells AutoLoss: held-out losses and gradient norms, without a trace."""

import random
from itertools import pairwise

import numpy as np
import pytest
import torch
from helpers.mmdet_support import HELD, assert_same, combiner_config, stock_state, with_held_out
from mmengine.hooks import Hook
from mmengine.runner import Runner

from lossweave.errors import LossweaveError
from lossweave.mmdet.held_out import HeldOut


class _Watch(Hook):
    """What AutoLoss knew, and the norm of the gradient that the optimizer was given."""

    priority = "LOWEST"

    def __init__(self) -> None:
        self.previous: list[torch.Tensor] = []
        self.norms: list[torch.Tensor] = []
        self.own: list[float] = []

    def before_train(self, runner) -> None:
        def note(optimizer, *_) -> None:
            grads = [p.grad for group in optimizer.param_groups for p in group["params"]]
            self.own.append(sum(float(g.square().sum()) for g in grads if g is not None) ** 0.5)

        runner.optim_wrapper.optimizer.register_step_pre_hook(note)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        combiner = runner.model.loss_combination.combiner
        self.previous.append(combiner.previous.clone())
        self.norms.append(combiner.norms.clone())


def _watched(cfg) -> tuple[Runner, _Watch]:
    runner, watch = Runner.from_cfg(cfg), _Watch()
    runner.register_hook(watch)
    runner.train()
    return runner, watch


def test_measuring_leaves_the_training_as_it_is(make_config) -> None:
    """Faster R-CNN draws its RoIs at random, and here ResNet updates its statistics."""
    frozen = dict(lr=0.0, seed=3)
    cfg = dict(model__backbone__norm_eval=False, model__backbone__frozen_stages=-1, iterations=3)
    with_it, without = (
        make_config("faster_rcnn", combiner_config("AutoLoss", **frozen, **more), name=name, **cfg)
        for name, more in (("with", HELD), ("without", {}))
    )
    measured, watch = _watched(with_held_out(with_it))
    plain, _ = _watched(without)
    assert_same(stock_state(measured), stock_state(plain))
    values = torch.stack(watch.previous)
    assert values.isfinite().all() and (values[1:] != values[:-1]).any()


def test_the_same_weights_have_the_same_held_out_losses(make_config) -> None:
    runner = Runner.from_cfg(make_config("faster_rcnn", combiner_config("AutoLoss")))
    model = runner.model.train()
    cfg = runner.cfg.train_dataloader
    held_out = HeldOut(dict(dataset=cfg.dataset, batch_size=2, num_workers=0), batches=2)
    wrapper = runner.build_optim_wrapper(runner.cfg.optim_wrapper)
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    one, two = (held_out.losses(model, wrapper.optim_context) for _ in range(2))
    assert one and all(torch.equal(one[name], two[name]) for name in one)
    assert not any(value.requires_grad for value in one.values())
    again = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    assert states[:2] == again[:2] and torch.equal(states[2], again[2])
    alone = [
        HeldOut(dict(dataset=cfg.dataset, batch_size=size, num_workers=0), batches=1).losses(
            model, wrapper.optim_context)["loss_cls"] for size in (1, 2)
    ]  # fmt: skip
    assert alone[0] != alone[1]
    with torch.no_grad():
        model.roi_head.bbox_head.fc_cls.bias += 1
    moved = held_out.losses(model, wrapper.optim_context)
    assert moved["loss_cls"] != one["loss_cls"] and moved["loss_rpn_cls"] == one["loss_rpn_cls"]


def test_it_learns_and_its_interval_is_kept(make_config) -> None:
    combiner = combiner_config("AutoLoss", reward="held_out", reward_interval=2)
    runner, watch = _watched(with_held_out(make_config("retinanet", combiner, iterations=8)))
    known = torch.stack(watch.previous)
    assert known[0].isnan().all() and known[1:].isfinite().all()
    changed = [bool((a != b).any()) for a, b in pairwise(known[1:])]
    assert changed == [False, True] * 3
    assert runner.model.loss_combination.combiner.policy.any()


def test_levels_are_measured_level_by_level(make_config) -> None:
    combiner = combiner_config("AutoLoss", reward="held_out", reward_interval=1)
    cfg = make_config("retinanet", combiner, iterations=3, model=dict(terms="level"))
    runner, watch = _watched(with_held_out(cfg))
    assert len(runner.model.loss_combination.terms.names) == 5
    known = torch.stack(watch.previous)
    assert known[1:].isfinite().all() and (known[1:] > 0).any()
    assert (known[1] != known[2]).any() and (known[2][0] != known[2][1:]).any()
    assert runner.model.loss_combination.combiner.policy.any()


@pytest.mark.parametrize("clip", [None, dict(max_norm=0.01), dict(type="value", clip_value=10.0)])
def test_the_gradient_s_norm_is_told_before_it_is_clipped(clip, make_config) -> None:
    cfg = make_config("retinanet", combiner_config("AutoLoss"), iterations=1)
    cfg.optim_wrapper.clip_grad = clip
    reference = make_config("retinanet", combiner_config("AutoLoss"), name="plain", iterations=1)
    reference.optim_wrapper.clip_grad = None
    _, watch = _watched(cfg)
    _, unclipped = _watched(reference)
    picked = watch.norms[0] > 0
    assert picked.sum() == 1
    told = watch.norms[0][picked].item()
    assert told == pytest.approx(unclipped.own[0], rel=1e-5)
    if clip is not None and "max_norm" in clip:
        assert watch.own[0] == pytest.approx(0.01, rel=1e-3)


def test_missing_data_are_asked_for(make_config) -> None:
    runner = Runner.from_cfg(make_config("retinanet", combiner_config("AutoLoss", **HELD)))
    with pytest.raises(LossweaveError, match=r"AutoLoss asks for held-out losses; give their"):
        runner.train()
    assert not runner.optim_wrapper.optimizer._optimizer_step_pre_hooks


@pytest.mark.parametrize(
    ("held_out", "message"),
    [
        (dict(batch_size=2), "held_out should be a data loader's config with a dataset"),
        ("val_dataloader", "held_out should be a data loader's config with a dataset"),
    ],
)
def test_wrong_held_out(held_out, message) -> None:
    with pytest.raises(LossweaveError, match=message):
        HeldOut(held_out)
