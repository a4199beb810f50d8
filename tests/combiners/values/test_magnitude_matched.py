"""Powers of ten that are picked once."""

from typing import Any

import pytest
import torch
from helpers.combiner_cases import Case, close, here, reference

from lossweave.combiners import MagnitudeMatched, build_combiner
from lossweave.combiners.values.magnitude_matched import matching_exponents
from lossweave.errors import LossweaveError

CASES = {
    "MagnitudeMatched": Case(
        lambda terms: {"reference": reference(terms), "updates": 3}, training={"updates": 3}
    )
}


def _bound(terms: tuple[str, ...] = ("a", "b", "c"), **arguments: Any) -> MagnitudeMatched:
    combiner = MagnitudeMatched(**arguments)
    combiner.bind(terms)
    return combiner


@pytest.mark.parametrize(
    ("loss", "exponent"),
    [(1.0, 0), (0.4, 0), (0.3, 1), (0.011, 2), (3.1, 0), (3.2, -1), (250.0, -2), (1e15, -15)],
)
def test_exponents(loss: float, exponent: int) -> None:
    assert matching_exponents(torch.tensor([loss]), torch.tensor(1.0)).tolist() == [exponent]


def test_exponents_are_bounded_and_defined() -> None:
    one = torch.tensor(1.0)
    means = torch.tensor([0.0, torch.inf, torch.nan, 1e-37])
    assert matching_exponents(means, one).tolist() == [0, 0, 0, 30]
    assert matching_exponents(torch.ones(2), torch.tensor(0.0)).tolist() == [0, 0]


def test_weights_follow_the_mean_of_the_first_updates_and_are_then_left() -> None:
    own = _bound(reference="b", updates=2)
    first, second = torch.tensor([0.01, 1.0, 100.0]), torch.tensor([0.01, 3.0, 0.0])
    assert own.combine(first, here()).weights.tolist() == [1, 1, 1]
    own.update(first, here())
    close(own.combine(first, here()).weights, [100.0, 1.0, 0.01])
    own.update(second, here())
    # Means (.01, 2, 100): log10(2 / .01) = 2.3, log10(2 / 100) = -1.7.
    close(own.combine(first, here()).weights, [100.0, 1.0, 0.01])
    close(own.combine(first, here()).value, 3.0)
    for _ in range(5):
        own.update(torch.tensor([5000.0, 1.0, 100.0]), here())
    close(own.combine(first, here()).weights, [100.0, 1.0, 0.01])


def test_a_late_term_is_matched_when_it_comes() -> None:
    own = _bound(("a", "b"), updates=2)
    for _ in range(5):
        own.update(torch.tensor([1.0, 0.0]), torch.tensor([True, False]))
    assert own.combine(torch.ones(2), here(2)).weights.tolist() == [1, 1]
    own.update(torch.tensor([1.0, 0.001]), here(2))
    close(own.combine(torch.ones(2), here(2)).weights, [1.0, 1000.0])


@pytest.mark.parametrize("out", [0.0, -1.0, torch.nan, torch.inf])
def test_what_is_not_positive_and_finite_is_not_counted(out: float) -> None:
    own = _bound(("a", "b"), updates=1)
    own.update(torch.tensor([1.0, out]), here(2))
    assert own.counts.tolist() == [1, 0] and own.totals.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"updates": 0}, "MagnitudeMatched: updates=0 should be at least 1"),
        ({"updates": 1.5}, "MagnitudeMatched: updates=1.5 should be a whole number"),
        ({"reference": 1}, "MagnitudeMatched: reference=1 should be a name or None"),
        ({"ref": "a"}, r"MagnitudeMatched has no argument 'ref'"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(LossweaveError, match=message):
        build_combiner({"type": "MagnitudeMatched", **arguments})


def test_an_unknown_reference() -> None:
    with pytest.raises(LossweaveError, match=r"reference='z' is not one of the terms"):
        _bound(reference="z")
