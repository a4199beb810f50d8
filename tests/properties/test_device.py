"""No combiner reads a value on the host, or sends one to the device, in a training step.

The tensors are fake ones on a CUDA device, so no accelerator is needed: a mode sees every
operator that would run on it.
"""

from typing import Any
from unittest.mock import patch

import pytest
import torch
from helpers.combiner_cases import TERMS, at, cases, config, make
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lossweave.combination import build_combination
from lossweave.combiners import FAMO, Combiner

CASES = cases()
#: What has to be known on the host: which parameters to leave alone, as documented.
WAITS = [case for case in CASES if CASES[case].waits]
NEVER_WAITS = [case for case in CASES if not CASES[case].waits]
#: Weights by automatic differentiation need a real device: of these the value alone is looked at.
BY_AUTOGRAD = [case for case in CASES if type(make(case)).combine is Combiner.combine]
CUDA = torch.device("cuda:0")
READS_THE_HOST = ("_local_scalar_dense", "item", "is_nonzero", "nonzero", "masked_select",
                  "equal", "_unique", "_unique2", "unique_dim", "bincount")


class Guard(TorchDispatchMode):
    """Fails on what waits for the device, and counts what is sent to it."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[int] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        on_device = any(x.device.type == "cuda" for x in tensors)
        assert not (name in READS_THE_HOST and on_device), f"{func} waits for the device"
        if name in ("index", "index_put", "index_put_", "_index_put_impl_"):
            masks = [x for x in tree_leaves(args[1]) if isinstance(x, Tensor)]
            assert all(x.dtype != torch.bool for x in masks), f"{func} by a mask waits"
        out = func(*args, **kwargs)
        moved_to = {x.device.type for x in tree_leaves(out) if isinstance(x, Tensor)}
        if name in ("_to_copy", "to", "copy_", "copy") and len({*moved_to, *(
            x.device.type for x in tensors
        )}) > 1:
            source = args[1] if name.startswith("copy") else args[0]
            assert source.device.type == "cpu", f"{func} brings a tensor to the host and waits"
            asynchronous = kwargs.get("non_blocking", False) or args[2:3] == (True,)
            assert asynchronous, f"{func} of {tuple(source.shape)} to the device waits"
            self.sent.append(source.numel())
        elif on_device:
            strangers = [x for x in tensors if x.device.type == "cpu" and x.dim() > 0]
            assert not strangers, f"{func} mixes devices"
        return out


def _fake(values: list[float]) -> Tensor:
    return torch.tensor(values).to(CUDA)


@pytest.mark.parametrize(
    "wait",
    [
        lambda x: x.sum().item(),
        lambda x: float(x[0]),
        lambda x: bool((x > 1).any()),
        lambda x: x.nonzero(),
        lambda x: x[x > 1],
        lambda x: torch.tensor([1.0, 2.0], device=CUDA),
        lambda x: torch.tensor([1.0, 2.0]).to(x),
        lambda x: x.cpu(),
        lambda x: x.tolist(),
        lambda x: x.copy_(torch.ones(2)),
        lambda x: torch.equal(x, x),
    ],
)
def test_the_guard_sees_what_waits(wait: Any) -> None:
    with FakeTensorMode(), torch.no_grad():
        x = _fake([1.0, 2.0])
        with Guard(), pytest.raises(AssertionError, match=r"waits|brings"):
            wait(x)


@pytest.mark.parametrize("case", NEVER_WAITS)
def test_combine_and_update_never_wait(case: str) -> None:
    with FakeTensorMode(), torch.no_grad():
        combiner = make(case).to(CUDA)
        losses, present = _fake([0.7, 13.0, 2.1]), _fake([1.0, 1.0, 0.0]) > 0
        with Guard() as guard:
            for t in range(6):
                combiner.begin(at(t))
                if case in BY_AUTOGRAD:
                    value = weights = combiner.value(losses, present)
                else:
                    value, weights = combiner.combine(losses, present)
                combiner.update(losses, present)
                if isinstance(combiner, FAMO):
                    combiner.relearn(losses, present)
        assert value.device == weights.device == CUDA
        assert all(buffer.device == CUDA for buffer in combiner.buffers())
    drawn = CASES[case].draws
    assert guard.sent == ([drawn] * 6 if drawn else [])


@pytest.mark.parametrize("case", WAITS)
def test_what_must_be_known_on_the_host_waits_once(case: str) -> None:
    with FakeTensorMode(), torch.no_grad():
        combiner = make(case).to(CUDA)
        losses, present = _fake([0.7, 13.0, 2.1]), _fake([1.0, 1.0, 1.0]) > 0
        with Guard(), pytest.raises(AssertionError, match="waits"):
            combiner.combine(losses, present)
        with patch.object(FakeTensor, "tolist", return_value=[1.0, 0.0, 0.0]) as read, Guard():
            combiner.combine(losses, present)
            combiner.update(losses, present)
        assert read.call_count == 1


@pytest.mark.parametrize("case", [case for case in NEVER_WAITS if case not in BY_AUTOGRAD])
@pytest.mark.parametrize("accumulation", [1, 2])
def test_the_whole_combination_never_waits(case: str, accumulation: int) -> None:
    with FakeTensorMode():
        terms = {"ab": {"combiner": config(case, ("a", "b")), "terms": {"a": "loss_a",
                 "b": "loss_b"}}, "c": "loss_c"}
        combination = build_combination("SquaredSum", terms).to(CUDA)
        leaves = [_fake([x])[0].requires_grad_() for x in (0.7, 13.0, 2.1)]
        entries = {f"loss_{t}": x * 1 for t, x in zip(TERMS, leaves, strict=True)}
        entries["loss_extra"] = leaves[0] * 2
        combination.set_progress(at(0, accumulation))
        combination(entries)  # keeps the mask of the terms, once
        with Guard() as guard:
            for t in range(1, 6):
                combination.set_progress(at(t, accumulation))
                root = combination(entries)
                # A backward would want the device itself.
                assert combination.update.latest is not None
                combination.update.reach(combination.update.latest)
                combination.end_iteration()
        assert root.device == CUDA
    # Two of the three terms are drawn for.
    assert sum(guard.sent) == (10 if CASES[case].draws else 0)


@pytest.mark.parametrize("case", CASES)
def test_reset_stays_on_the_device(case: str) -> None:
    with FakeTensorMode(), torch.no_grad():
        combiner = make(case).to(CUDA)
        combiner.reset()
        assert all(buffer.device == CUDA for buffer in combiner.buffers())
