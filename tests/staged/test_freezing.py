"""Frozen means bit-identical, and the guard sees what is not."""

import pytest
import torch
from torch import nn

from lossweave.errors import LossweaveError
from lossweave.staged.freezing import (
    FrozenGuard,
    digest,
    drop_frozen,
    freeze,
    hold_eval,
    modules_at,
    unchanged,
)


def _net() -> nn.Sequential:
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(0.5)), nn.Conv2d(2, 1, 1)
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1),
        lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.1),
    ],
    ids=["SGD", "AdamW"],
)
def test_training_leaves_it_alone(make) -> None:
    net = _net()
    freeze([net[0]])
    optimizer = make(net.parameters())
    drop_frozen(optimizer)
    guard = FrozenGuard({"0": net[0]})
    before = net[1].weight.clone()
    for _ in range(3):
        net.train()
        hold_eval([net[0]])
        features = net[0](torch.randn(4, 1, 5, 5))
        assert not features.requires_grad
        net[1](features).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    guard.check("test", [optimizer])
    assert not torch.equal(before, net[1].weight)
    assert len(optimizer.state) == 2 and len(optimizer.param_groups[0]["params"]) == 2


def test_state_from_before_is_dropped_and_empty_groups_go() -> None:
    net = _net()
    groups = [dict(params=net[0].parameters()), dict(params=net[1].parameters())]
    optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.9)
    net(torch.randn(4, 1, 5, 5)).sum().backward()
    optimizer.step()
    freeze([net[0]])
    assert all(p.grad is None for p in net[0].parameters())
    drop_frozen(optimizer)
    assert len(optimizer.param_groups) == 1 and len(optimizer.state) == 2


def test_the_guard_sees_each_way_to_change() -> None:
    for change in (
        lambda net: net[0][0].weight.data.add_(1e-7),
        lambda net: net[0][1].num_batches_tracked.add_(1),
        lambda net: net[0][1].train()(torch.randn(2, 2, 3, 3)),
        lambda net: net[0].register_buffer("late", torch.zeros(1)),
    ):
        net = _net()
        freeze([net[0]])
        guard = FrozenGuard({"stem": net[0]})
        guard.check("unchanged")
        change(net)
        with pytest.raises(LossweaveError, match=r"^stage: \d+ of \d+ frozen tensors changed"):
            guard.check("stage")


def test_the_guard_sees_frozen_weights_in_an_optimizer() -> None:
    net = _net()
    freeze([net[0]])
    guard = FrozenGuard({"stem": net[0]})
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with pytest.raises(LossweaveError, match=r"optimizer holds the frozen 'stem\.0\.weight'"):
        guard.check("stage", [optimizer])


def test_buffers_outside_of_the_checkpoint_count() -> None:
    net = nn.Linear(1, 1)
    net.register_buffer("hidden", torch.zeros(2), persistent=False)
    guard = FrozenGuard({"net": net})
    net.hidden[0] = 1
    with pytest.raises(LossweaveError, match=r"net\.hidden"):
        guard.check("stage")


def test_digests_differ_by_type_and_shape() -> None:
    one = torch.zeros(4)
    for other in (one.double(), one.view(2, 2), one.to(torch.bfloat16)):
        assert digest({"x": one}) != digest({"x": other})
    assert digest({"x": torch.zeros(())}) and digest({"x": torch.zeros(0)})
    with pytest.raises(LossweaveError, match="2 of 1"):
        unchanged(digest({"x": one}), digest({"y": one}), "what")


def test_unknown_modules_and_nothing_left() -> None:
    net = _net()
    assert list(modules_at(net, ["0.1"])) == ["0.1"]
    with pytest.raises(LossweaveError, match=r"no module '0\.7': '7' is not among 0, 1, 2"):
        modules_at(net, ["0.7"])
    freeze([net])
    with pytest.raises(LossweaveError, match="nothing to train"):
        drop_frozen(torch.optim.SGD(net.parameters(), lr=0.1))
