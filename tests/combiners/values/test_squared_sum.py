"""The squared sum."""

import pytest
import torch
from helpers.combiner_cases import Case, close, here

from lossweave.combiners import SquaredSum, build_combiner
from lossweave.errors import LossweaveError

CASES = {"SquaredSum": Case(alone=5.0, value_alone=False)}


@pytest.mark.parametrize(
    ("losses", "value", "weight"),
    [([1.0, 2.0], 9.0, 6.0), ([0.5], 0.25, 1.0), ([0.0, 0.0], 0.0, 0.0), ([1.0, -4.0], 9.0, -6.0)],
)
def test_formula(losses: list[float], value: float, weight: float) -> None:
    result = SquaredSum().combine(torch.tensor(losses), here(len(losses)))
    close(result.value, value)
    close(result.weights, [weight] * len(losses))


def test_overflow_is_seen() -> None:
    assert SquaredSum().combine(torch.full((2,), 5e18), here(2)).value.isfinite()
    assert SquaredSum().combine(torch.full((2,), 1e19), here(2)).value == torch.inf


def test_it_takes_no_arguments() -> None:
    with pytest.raises(LossweaveError, match="SquaredSum has no argument 'weights'"):
        build_combiner({"type": "SquaredSum", "weights": 1})
