"""PBI, against TorchJD's."""

from typing import Any

import pytest
import torch
from helpers.combiner_cases import SHARES, Case, close, here, losses_at, those
from torchjd.scalarization import PBI as TorchJDPBI

from lossweave.combiners import PBI, build_combiner
from lossweave.errors import LossweaveError

#: A penalty so small that no weight is negative.
CASES = {
    "PBI": Case(
        lambda terms: {"theta": 0.3, "weights": those(SHARES, terms),
                       "reference": those({"a": 0.1, "b": 0.0, "c": 0.2}, terms)},
        value_alone=False,  # it is that of the loss above its reference
    )
}  # fmt: skip


def _bound(**arguments: Any) -> PBI:
    combiner = PBI(**arguments)
    combiner.bind(("a", "b", "c"))
    return combiner


@pytest.mark.parametrize("theta", [0.0, 0.5, 5.0])
@pytest.mark.parametrize("weights", [[0.2, 0.3, 0.5], [1.0, 0.0, 2.0]])
@pytest.mark.parametrize("reference", [None, [0.1, 1.0, -1.0]])
def test_equals_torchjd(
    theta: float, weights: list[float], reference: list[float] | None
) -> None:
    for t in range(5):
        losses = losses_at(t, torch.float64).requires_grad_()
        vectors = [None if v is None else torch.tensor(v).double() for v in (weights, reference)]
        expected = TorchJDPBI(theta, *vectors)(losses)
        expected.backward()
        own = _bound(theta=theta, weights=weights, reference=reference)
        value, given = own.combine(losses.detach(), here())
        close(value, expected.detach(), rtol=1e-6)
        assert losses.grad is not None
        close(given, losses.grad, rtol=1e-5)


def test_on_the_ray_the_distance_has_no_say() -> None:
    value, weights = _bound(theta=5.0).combine(torch.full((3,), 2.0).double(), here())
    close(value, 2 * 3**0.5, rtol=1e-5)
    close(weights, [3**-0.5] * 3, rtol=1e-6)


def test_a_term_that_is_too_small_for_the_ray_is_pushed_up() -> None:
    weights = _bound(theta=5.0).combine(torch.tensor([0.01, 1.0, 1.0]), here()).weights
    assert weights[0] < 0 < weights[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"theta": -1.0}, "PBI: theta=-1.0 should be at least 0"),
        ({"weights": [0, 0, 0]}, "weights=.* not all 0"),
        ({"reference": [1, 1]}, "2 entries for the 3 terms"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(LossweaveError, match=message):
        build_combiner({"type": "PBI", **arguments}).bind(("a", "b", "c"))
