"""The sum."""

from typing import Any

import pytest
import torch
from helpers.combiner_cases import FACTORS, Case, here, those

from lossweave.combiners import Sum, build_combiner
from lossweave.errors import LossweaveError

CASES = {"Sum": Case(lambda terms: {"weights": those(FACTORS, terms)})}


def _bound(weights: Any = None, terms: tuple[str, ...] = ("a", "b")) -> Sum:
    combiner = Sum(weights)
    combiner.bind(terms)
    return combiner


@pytest.mark.parametrize(
    ("weights", "value", "plain"),
    [
        (None, 4.0, True),
        (1, 4.0, True),
        ([1, 1], 4.0, True),
        ({"a": 1.0, "b": 2.0}, 7.0, False),
        ({"b": 2.0, "a": 1.0}, 7.0, False),
        ([0.5, -1.0], -2.5, False),
        (3, 12.0, False),
    ],
)
def test_formula(weights: Any, value: float, plain: bool) -> None:
    combiner = _bound(weights)
    assert combiner.combine(torch.tensor([1.0, 3.0]), here(2)).value == value
    assert combiner.is_plain is plain


def test_an_absent_term_has_no_weight() -> None:
    weights = _bound([1, 2]).combine(torch.zeros(2), torch.tensor([True, False])).weights
    assert weights.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("heavy", "Sum: weights='heavy' should be a dict from a name to a number or a list of"),
        ({"a": "x"}, "Sum: weights={'a': 'x'} should be"),
        (True, "Sum: weights=True should be"),
    ],
)
def test_ill_typed(weights: Any, message: str) -> None:
    with pytest.raises(LossweaveError, match=message):
        build_combiner({"type": "Sum", "weights": weights})


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"a": 1.0}, r"Sum: weights lacks the terms \['b'\]"),
        ({"a": 1.0, "z": 1.0}, r"Sum: weights='z' is not one of the terms \['a', 'b'\]"),
        ([1.0], "Sum: weights has 1 entries for the 2 terms"),
        ([1.0, float("nan")], "should be finite numbers"),
        ([0, 0], "weights=.* should be above 0 for one term at least"),
        (-1.0, "weights=-1.0 should be above 0 for one term at least"),
    ],
)
def test_weights_that_do_not_fit(weights: Any, message: str) -> None:
    with pytest.raises(LossweaveError, match=message):
        _bound(weights)
