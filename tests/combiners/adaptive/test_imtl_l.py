"""IMTL-L, against TorchJD's."""

from typing import Any

import pytest
import torch
from helpers.combiner_cases import Case, close, here, losses_at
from torchjd.scalarization import IMTLL as TorchJDIMTLL

from lossweave.combiners import IMTLL, build_combiner
from lossweave.errors import LossweaveError

CASES = {"IMTLL": Case(lambda terms: {"lr": 0.05}, training={"lr": 0.1})}


def _bound(terms: tuple[str, ...] = ("a", "b", "c"), **arguments: Any) -> IMTLL:
    combiner = IMTLL(**arguments)
    combiner.bind(terms)
    return combiner


def test_equals_torchjd_stepped_by_torch_adam() -> None:
    own, reference = _bound(lr=0.03), TorchJDIMTLL(3)
    optimizer = torch.optim.Adam(reference.parameters(), lr=0.03)
    for t in range(100):
        losses = losses_at(t)
        value, weights = own.combine(losses, here())
        own.update(losses, here())
        variable = losses.clone().requires_grad_()
        optimizer.zero_grad()
        expected = reference(variable)
        expected.backward()
        optimizer.step()
        close(value, expected.detach(), rtol=1e-4)
        assert variable.grad is not None
        close(weights, variable.grad, rtol=1e-4)
    close(own.log_scale, reference.log_scale.detach(), rtol=1e-3)


def test_at_its_optimum_every_scaled_term_is_one() -> None:
    own, losses = _bound(lr=0.05), torch.tensor([0.5, 2.0, 20.0])
    for _ in range(1500):
        own.update(losses, here())
    close(own.combine(losses, here()).weights * losses, [1.0, 1.0, 1.0], rtol=1e-3)


@pytest.mark.parametrize("out", [0.0, -3.0, torch.nan])
def test_a_term_without_a_best_scale_does_not_learn(out: float) -> None:
    own = _bound()
    own.update(torch.tensor([2.0, 2.0, 2.0]), here())
    before = own.log_scale.clone()
    for _ in range(100):
        own.update(torch.tensor([out, 2.0, 2.0]), here())
    assert own.log_scale[0] == before[0] and own.log_scale[1] < before[1]
    assert own.adam.count.tolist() == [1, 101, 101]


def test_the_scale_stays_within_its_limit() -> None:
    own = _bound(lr=1.0, limit=3.0)
    for _ in range(20):
        own.update(torch.tensor([1e-12, 1e12, 1.0]), here())
    close(own.log_scale, [3.0, -3.0, 0.0], atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lr": -0.1}, "IMTLL: lr=-0.1 should be finite and not negative"),
        ({"limit": 0.0}, "IMTLL: limit=0.0 should be positive and at most 80"),
        ({"limit": 1000}, "IMTLL: limit=1000 should be positive and at most 80"),
        ({"betas": [0.9, 1.0]}, r"betas=\[0.9, 1.0\] should be two numbers in \[0, 1\)"),
        ({"betas": [0.9]}, r"betas=\[0.9\] should be a list of a number and a number"),
        ({"beta": 0.9}, r"IMTLL has no argument 'beta'.*did you mean 'betas'\?"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(LossweaveError, match=message):
        build_combiner({"type": "IMTLL", **arguments})
