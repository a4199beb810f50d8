"""The autograd root, and what a backward would reach."""

import pytest
import torch
import torch.distributed as dist
from helpers.ranks import leave
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from lossweave.backward import reached_leaves, weighted_root


def _leaf(value: float) -> Tensor:
    return torch.tensor(value, requires_grad=True)


def _root(value: float, weights: list[float], terms: list[Tensor]) -> Tensor:
    return weighted_root(torch.tensor(value), torch.tensor(weights), terms)


def test_value_and_gradient_are_the_given_ones() -> None:
    x, y = _leaf(3.0), _leaf(5.0)
    root = _root(7.0, [2.0, 0.5, -1.0], [x * y, x * 4, y * y])
    root.backward()
    assert root == 7 and root.shape == ()
    assert x.grad == 2 * 5 + 0.5 * 4 and y.grad == 2 * 3 - 2 * 5


@pytest.mark.parametrize("scale", [0.25, 65536.0])
def test_the_incoming_gradient_scales_it(scale: float) -> None:
    x = _leaf(3.0)
    (_root(7.0, [2.0], [x * 1]) * scale).backward()
    assert x.grad == 2 * scale


def test_gradients_accumulate() -> None:
    x = _leaf(3.0)
    for _ in range(3):
        (_root(7.0, [2.0], [x * 1]) / 3).backward()
    assert x.grad is not None and x.grad.item() == pytest.approx(2.0)


def test_an_infinite_value_does_not_touch_the_gradient() -> None:
    x = _leaf(3.0)
    _root(torch.inf, [2.0], [x * 1]).backward()
    assert x.grad == 2


def test_a_term_without_gradient_is_allowed() -> None:
    x = _leaf(3.0)
    _root(7.0, [2.0, 5.0], [x * 1, torch.tensor(1.0)]).backward()
    assert x.grad == 2


def test_a_term_may_itself_be_a_leaf() -> None:
    x = _leaf(3.0)
    _root(1.0, [2.0], [x]).backward()
    assert x.grad == 2


def test_the_value_given_may_change_afterwards() -> None:
    value = torch.tensor(7.0)
    root = weighted_root(value, torch.tensor([1.0]), [_leaf(1.0)])
    value.add_(1)
    assert root == 7


def test_reached_leaves() -> None:
    a, b, c, d = (_leaf(float(k)) for k in range(1, 5))
    inner = a * b
    roots = [inner + b, (inner * c).exp() * d.detach()]
    assert {id(x) for x in reached_leaves(roots)} == {id(a), id(b), id(c)}
    assert len(reached_leaves(roots)) == 3
    assert reached_leaves([d.detach(), torch.tensor(1.0)]) == []


def test_reached_leaves_of_a_deep_graph() -> None:
    x = _leaf(1.0)
    y = x * 1
    for _ in range(5000):
        y = y + 1
    assert [leaf is x for leaf in reached_leaves([y])] == [True]


def test_reached_leaves_look_into_a_checkpoint_that_is_not_reentrant() -> None:
    layer = nn.Linear(2, 2)
    x = torch.ones(1, 2, requires_grad=True)
    y = checkpoint(layer, x, use_reentrant=False)
    assert isinstance(y, Tensor)
    found = {id(leaf) for leaf in reached_leaves([y.sum()])}
    assert found == {id(x), *(id(p) for p in layer.parameters())}


class _Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.shared, self.one, self.two = (nn.Linear(2, 2) for _ in range(3))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        y = self.shared(x)
        return {"acc": x.sum(), "one": self.one(y).sum(), "two": self.two(y).sum()}


@pytest.mark.parametrize("unused", [False, True])
def test_reached_leaves_keep_ddp_s_outputs_apart(
    unused: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("group")
    dist.init_process_group("gloo", init_method=f"file://{folder}/f", rank=0, world_size=1)
    try:
        model = _Two()
        out = DistributedDataParallel(model, find_unused_parameters=unused)(torch.ones(1, 2))
        for name, head in (("one", model.one), ("two", model.two)):
            expected = {id(p) for p in (*model.shared.parameters(), *head.parameters())}
            assert {id(leaf) for leaf in reached_leaves([out[name]])} == expected
    finally:
        leave()
