"""COSMOS, against TorchJD's."""

from typing import Any

import pytest
import torch
from helpers.combiner_cases import SHARES, Case, close, here, losses_at, those
from torchjd.scalarization import COSMOS as TorchJDCOSMOS

from lossweave.combiners import COSMOS, build_combiner
from lossweave.errors import LossweaveError

CASES = {
    "COSMOS": Case(
        lambda terms: {"lambda_": 0.1, "weights": those(SHARES, terms)},
        alone=0.5,
        value_alone=False,  # its cosine is 1
    )
}


def _bound(**arguments: Any) -> COSMOS:
    combiner = COSMOS(**arguments)
    combiner.bind(("a", "b", "c"))
    return combiner


@pytest.mark.parametrize("penalty", [0.0, 0.3, 8.0])
@pytest.mark.parametrize("weights", [[0.2, 0.3, 0.5], [1.0, 0.0, 2.0]])
def test_equals_torchjd(penalty: float, weights: list[float]) -> None:
    for t in range(5):
        losses = losses_at(t, torch.float64).requires_grad_()
        expected = TorchJDCOSMOS(penalty, torch.tensor(weights, dtype=torch.float64))(losses)
        expected.backward()
        own = _bound(lambda_=penalty, weights=weights)
        value, given = own.combine(losses.detach(), here())
        close(value, expected.detach(), rtol=1e-6)
        assert losses.grad is not None
        close(given, losses.grad, rtol=1e-5)


def test_none_is_equal_shares() -> None:
    losses = losses_at(2)
    found = _bound().combine(losses, here())
    close(found.weights, _bound(weights=1 / 3).combine(losses, here()).weights)


def test_a_term_that_is_too_small_for_the_ray_is_pushed_up() -> None:
    weights = _bound(lambda_=8.0, weights=[1.0, 1.0, 1.0]).combine(
        torch.tensor([0.01, 1.0, 1.0]), here()
    ).weights  # fmt: skip
    assert weights[0] < 0 < weights[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lambda_": -1.0}, "COSMOS: lambda_=-1.0 should be at least 0"),
        ({"weights": [0, 0, 0]}, "weights=.* not all 0"),
        ({"weights": [1, -1, 1]}, "weights=.* not negative"),
        ({"weights": [1, 1]}, "2 entries for the 3 terms"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(LossweaveError, match=message):
        build_combiner({"type": "COSMOS", **arguments}).bind(("a", "b", "c"))
