"""No combiner reads a value on the host, or sends one to the device, in a training step.

The tensors are fake ones on a CUDA device, so no accelerator is needed: a mode sees every
operator that would run on it.
"""

from typing import Any
from unittest.mock import patch

import pytest
import torch
from helpers.combiner_cases import TERMS, at, cases, config, make
from helpers.device_guard import CUDA, Guard
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from lossweave.combination import build_combination
from lossweave.combiners import FAMO, Combiner

CASES = cases()
#: What has to be known on the host: which parameters to leave alone, as documented.
WAITS = [case for case in CASES if CASES[case].waits]
NEVER_WAITS = [case for case in CASES if not CASES[case].waits]
#: Weights by automatic differentiation need a real device: of these the value alone is looked at.
BY_AUTOGRAD = [case for case in CASES if type(make(case)).combine is Combiner.combine]


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
        terms = {
            "ab": {"combiner": config(case, ("a", "b")), "terms": {"a": "loss_a", "b": "loss_b"}},
            "c": "loss_c",
        }
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
