"""Uncertainty weighting, against TorchJD's."""

from typing import Any

import pytest
import torch
from helpers.combiner_cases import Case, close, here, losses_at
from torchjd.scalarization import UW

from lossweave.combiners import UncertaintyWeighting, build_combiner
from lossweave.errors import LossweaveError

#: Of a single term s itself is in the value.
CASES = {
    name: Case(
        lambda terms, bounded=bounded: {"lr": 0.05, "init": 0.2, "bounded": bounded},
        alone=0.5 * 2.718281828**-0.2,
        value_alone=False,
        training={"lr": 0.1},
    )
    for name, bounded in (("UncertaintyWeighting", False), ("UncertaintyWeighting bounded", True))
}


def _bound(terms: tuple[str, ...] = ("a", "b", "c"), **arguments: Any) -> UncertaintyWeighting:
    combiner = UncertaintyWeighting(**arguments)
    combiner.bind(terms)
    return combiner


def test_worked_example() -> None:
    value, weights = _bound().combine(torch.tensor([1.0, 2.0, 4.0]), here())
    close(value, 3.5)
    close(weights, [0.5, 0.5, 0.5])


def test_equals_torchjd_stepped_by_torch_adam() -> None:
    own, reference = _bound(lr=0.03, betas=(0.8, 0.99)), UW(3)
    optimizer = torch.optim.Adam(reference.parameters(), lr=0.03, betas=(0.8, 0.99))
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
    close(own.log_var, reference.log_var.detach(), rtol=1e-3)


def test_at_its_optimum_s_is_the_logarithm_of_the_loss() -> None:
    own, losses = _bound(lr=0.05), torch.tensor([0.5, 2.0, 20.0])
    for _ in range(2000):
        own.update(losses, here())
    close(own.log_var, losses.log(), rtol=1e-3, atol=1e-3)
    close(own.combine(losses, here()).weights * losses, [0.5] * 3, rtol=1e-3)


def test_the_value_may_be_negative() -> None:
    own = _bound(init=-5.0)
    assert own.combine(torch.full((3,), 1e-3), here()).value < 0


@pytest.mark.parametrize("out", [0.0, -3.0, torch.nan])
def test_a_term_without_a_best_s_does_not_learn(out: float) -> None:
    own = _bound()
    own.update(torch.tensor([2.0, 2.0, 2.0]), here())
    before = own.log_var.clone()
    for _ in range(100):
        own.update(torch.tensor([out, 2.0, 2.0]), here())
    assert own.log_var[0] == before[0] and own.log_var[1] > before[1]
    assert own.adam.count.tolist() == [1, 101, 101]


def test_s_stays_within_its_limit() -> None:
    own = _bound(lr=1.0, limit=3.0)
    for _ in range(20):
        own.update(torch.tensor([1e-12, 1e12, 1.0]), here())
    close(own.log_var, [-3.0, 3.0, 0.0], atol=1e-5)


def test_it_recovers_from_a_loss_whose_gradient_s_square_overflows() -> None:
    own = _bound(("a",), lr=0.1)
    own.update(torch.tensor([1e30]), here(1))
    up = own.log_var.clone()
    own.update(torch.tensor([1e30]), here(1))
    assert (own.log_var > up).all() and own.adam.second.isfinite().all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lr": -0.1}, "UncertaintyWeighting: lr=-0.1 should be finite and not negative"),
        ({"limit": -1}, "limit=-1 should be positive and at most 80"),
        ({"betas": [1.5, 2.0]}, r"betas=\[1.5, 2.0\] should be two numbers in \[0, 1\)"),
        ({"betas": 0.9}, "betas=0.9 should be a list of a number and a number"),
        ({"init": 30.0}, r"init=30.0 should be in \[-20.0, 20.0\]"),
        ({"weight_decay": 0.1}, "UncertaintyWeighting has no argument 'weight_decay'; it takes lr"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(LossweaveError, match=message):
        build_combiner({"type": "UncertaintyWeighting", **arguments})


def test_bounded_equals_its_formula_stepped_by_torch_adam() -> None:
    own = _bound(lr=0.03, bounded=True)
    log_var = torch.zeros(3, requires_grad=True)
    optimizer = torch.optim.Adam([log_var], lr=0.03)
    for t in range(100):
        losses = losses_at(t)
        value, weights = own.combine(losses, here())
        own.update(losses, here())
        variable, sigma = losses.clone().requires_grad_(), (log_var / 2).exp()
        expected = (variable / (2 * sigma**2) + torch.log(1 + sigma**2)).sum()
        optimizer.zero_grad()
        expected.backward()
        optimizer.step()
        close(value, expected.detach(), rtol=1e-4)
        assert variable.grad is not None
        close(weights, variable.grad, rtol=1e-4)
    close(own.log_var, log_var.detach(), rtol=1e-3)


def test_bounded_is_never_negative_and_has_the_optimum_that_is_documented() -> None:
    own, losses = _bound(lr=0.05, bounded=True), torch.tensor([1e-3, 2.0, 200.0])
    for _ in range(3000):
        own.update(losses, here())
    close(own.log_var.exp(), (losses + (losses**2 + 8 * losses).sqrt()) / 4, rtol=1e-2)
    assert own.combine(torch.full((3,), 1e-9), here()).value > 0
    assert _bound(bounded=True, init=-5.0).combine(torch.full((3,), 1e-9), here()).value > 0
