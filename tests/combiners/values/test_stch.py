"""Smooth Tchebycheff, against TorchJD's."""

from typing import Any

import pytest
import torch
from helpers.combiner_cases import SHARES, Case, close, here, those
from torchjd.scalarization import STCH as TorchJDSTCH

from lossweave.combiners import STCH, build_combiner
from lossweave.errors import LossweaveError

CASES = {
    "STCH": Case(
        lambda terms: {"mu": 0.5, "weights": those(SHARES, terms),
                       "reference": those({"a": 0.1, "b": 0.0, "c": 0.2}, terms)},
        alone=0.5,
        value_alone=False,  # it is that of the loss above its reference
    )
}


def _bound(terms: tuple[str, ...] = ("a", "b", "c"), **arguments: Any) -> STCH:
    combiner = STCH(**arguments)
    combiner.bind(terms)
    return combiner


@pytest.mark.parametrize("mu", [0.01, 0.5, 3.0])
@pytest.mark.parametrize("weights", [None, [0.2, 0.3, 0.5], [1.0, 0.0, 2.0]])
@pytest.mark.parametrize("reference", [None, [0.1, 1.0, -1.0]])
def test_equals_torchjd(
    mu: float, weights: list[float] | None, reference: list[float] | None
) -> None:
    losses = torch.tensor([1.0, 1.3, 0.2], dtype=torch.float64, requires_grad=True)
    own = _bound(mu=mu, weights=weights, reference=reference)
    vectors = [None if v is None else torch.tensor(v) for v in (weights, reference)]
    expected = TorchJDSTCH(mu, *vectors)(losses)
    expected.backward()
    value, given = own.combine(losses.detach(), here())
    close(value, expected.detach(), rtol=1e-6)
    assert losses.grad is not None
    close(given, losses.grad, rtol=1e-5)


def test_worked_example() -> None:
    value, weights = _bound(("a", "b")).combine(torch.tensor([1.0, 3.0]), here(2))
    # log(e^.5 + e^1.5), and half the softmax of (.5, 1.5)
    close(value, 1.81326, atol=1e-4)
    close(weights, [0.13447, 0.36553], atol=1e-4)


def test_it_tends_to_the_maximum() -> None:
    value, weights = _bound(mu=1e-3, weights=1.0).combine(torch.tensor([1.0, 3.0, 2.0]), here())
    close(value, 3.0)
    close(weights, [0.0, 1.0, 0.0])


def test_nothing_present() -> None:
    value, weights = _bound().combine(torch.zeros(3), torch.tensor([False] * 3))
    assert value == 0 and weights.tolist() == [0, 0, 0]


@pytest.mark.parametrize("mu", [1e-6, 1.0])
def test_huge_losses_stay_finite(mu: float) -> None:
    value, weights = _bound(mu=mu).combine(torch.tensor([1e37, 2e37, 0.0]), here())
    close(value, 2e37 / 3)
    close(weights, [0.0, 1 / 3, 0.0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mu": 0.0}, "STCH: mu=0.0 should be positive and finite"),
        ({"mu": 1e-300}, "STCH: mu=1e-300 should be at least 1e-30"),
        ({"mu": "x"}, "STCH: mu='x' should be a number"),
        ({"weights": "x"}, "STCH: weights='x' should be"),
        ({"nu": 1.0}, "STCH has no argument 'nu'; it takes mu, weights, reference"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(LossweaveError, match=message):
        build_combiner({"type": "STCH", **arguments})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weights": [1.0, -1.0, 1.0]}, "weights=.* should be not negative"),
        ({"weights": [0.0, 0.0, 0.0]}, "weights=.* not all 0"),
        ({"weights": {"z": 1.0}}, "weights='z' is not one of the terms"),
        ({"reference": [1.0]}, "reference has 1 entries for the 3 terms"),
    ],
)
def test_arguments_that_do_not_fit(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(LossweaveError, match=message):
        _bound(**arguments)
