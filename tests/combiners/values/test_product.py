"""The product."""

import pytest
import torch
from helpers.combiner_cases import Case, close, here

from lossweave.combiners import Product, build_combiner
from lossweave.errors import LossweaveError

CASES = {"Product": Case(drops_negative=True, overflows=True)}


@pytest.mark.parametrize(
    ("losses", "value", "weights"),
    [
        ([2.0, 3.0], 6.0, [3.0, 2.0]),
        ([2.0, 3.0, 5.0, 7.0], 210.0, [105.0, 70.0, 42.0, 30.0]),
        ([4.0], 4.0, [1.0]),
        ([0.0, 3.0, 5.0], 15.0, [0.0, 5.0, 3.0]),
        ([-2.0, 3.0, 5.0], 15.0, [0.0, 5.0, 3.0]),
        ([0.0, -1.0], 0.0, [0.0, 0.0]),
    ],
)
def test_formula(losses: list[float], value: float, weights: list[float]) -> None:
    result = Product().combine(torch.tensor(losses), here(len(losses)))
    close(result.value, value)
    close(result.weights, weights)


def test_overflow_is_seen() -> None:
    value, weights = Product().combine(torch.full((3,), 1e15), here())
    assert value == torch.inf
    close(weights, [1e30] * 3)
    assert Product().combine(torch.full((4,), 1e15), here(4)).weights.tolist() == [torch.inf] * 4


def test_underflow_is_zero() -> None:
    value, weights = Product().combine(torch.full((3,), 1e-30), here())
    assert value == 0 and weights.tolist() == [0, 0, 0]


def test_it_takes_no_arguments() -> None:
    with pytest.raises(LossweaveError, match="Product has no argument 'p'; it takes prefer"):
        build_combiner({"type": "Product", "p": 2})
