"""The Lp norm, against torch.linalg.vector_norm."""

from typing import Any

import pytest
import torch
from helpers.combiner_cases import Case, close, here

from lossweave.combiners import LpNorm, build_combiner
from lossweave.errors import LossweaveError

CASES = {"LpNorm": Case(lambda terms: {"p": 3.0}, drops_negative=True)}


@pytest.mark.parametrize("p", [1, 1.5, 2.0, 3.0, 10.0])
@pytest.mark.parametrize("losses", [[3.0, 4.0], [0.2, 5.0, 1.0], [7.0]])
def test_equals_torch(losses: list[float], p: float) -> None:
    variable = torch.tensor(losses, dtype=torch.float64, requires_grad=True)
    expected = torch.linalg.vector_norm(variable, p)
    expected.backward()
    value, weights = LpNorm(p).combine(variable.detach(), here(len(losses)))
    close(value, expected.detach(), rtol=1e-12)
    assert variable.grad is not None
    close(weights, variable.grad, rtol=1e-12)


def test_worked_example() -> None:
    value, weights = LpNorm(2.0).combine(torch.tensor([3.0, 4.0]), here(2))
    close(value, 5.0)
    close(weights, [0.6, 0.8])


@pytest.mark.parametrize(("p", "weight"), [(1.0, 1.0), (2.0, 0.0)])
def test_a_term_at_zero(p: float, weight: float) -> None:
    assert LpNorm(p).combine(torch.tensor([0.0, 4.0]), here(2)).weights.tolist() == [weight, 1]


def test_all_at_zero_have_equal_weights() -> None:
    close(LpNorm(2.0).combine(torch.zeros(4), here(4)).weights, [0.5] * 4)
    present = torch.tensor([True, True, True, True, False])
    close(LpNorm(2.0).combine(torch.zeros(5), present).weights, [0.5] * 4 + [0.0])


def test_a_term_below_zero_is_left_out() -> None:
    value, weights = LpNorm(2.0).combine(torch.tensor([-9.0, 3.0, 4.0]), here())
    close(value, 5.0)
    close(weights, [0.0, 0.6, 0.8])


@pytest.mark.parametrize("p", [1.0, 2.0, 50.0, 1e6])
@pytest.mark.parametrize("scale", [1e-45, 1e-40, 1e-30, 1e37])
def test_no_power_overflows_or_underflows(scale: float, p: float) -> None:
    losses = torch.tensor([3.0, 4.0]) * scale
    value, weights = LpNorm(p).combine(losses, here(2))
    assert value.isfinite() and (weights >= 0).all() and (weights <= 1).all()
    if scale in (1e-30, 1e37):
        close(value / scale, (3**p + 4**p) ** (1 / p) if p < 100 else 4.0, rtol=1e-4)


@pytest.mark.parametrize(
    ("p", "message"),
    [
        (0.5, "LpNorm: p=0.5 should be finite and at least 1"),
        (float("inf"), "LpNorm: p=inf should be"),
        (float("nan"), "LpNorm: p=nan should be"),
        ("2", "LpNorm: p='2' should be a number"),
        (True, "LpNorm: p=True should be a number"),
    ],
)
def test_wrong_arguments(p: Any, message: str) -> None:
    with pytest.raises(LossweaveError, match=message):
        build_combiner({"type": "LpNorm", "p": p})
