"""What is found in tables of inner products, against worked arithmetic."""

import math

import pytest

from lossweave.studies.diagnose.findings import batches_until_known, held_back, static_weights


def test_static_weights_balance_lengths_at_the_scale_of_the_plain_sum() -> None:
    tables = [[[4.0, 0.0], [0.0, 1.0]], [[64.0, 0.0], [0.0, 1.0]]]  # lengths 2 and 8, geometric 4
    found = static_weights(["cls", "loc"], tables)
    assert found == pytest.approx({"cls": 5 / 8, "loc": 5 / 2})
    assert 4 * found["cls"] == pytest.approx(1 * found["loc"])
    assert 4 * found["cls"] + 1 * found["loc"] == pytest.approx(4 + 1)


def test_static_weights_leave_what_has_no_gradient_and_what_is_no_term() -> None:
    tables = [[[4.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 9.0]]]
    assert static_weights(["cls", "loc", "others"], tables) == {"cls": 1.0, "loc": 1.0}


def test_held_back_with_weights() -> None:
    table = [[1.0, -3.0], [-3.0, 16.0]]
    assert held_back(table) == [-2.0, 13 / 16]
    # With lengths made equal the cosine alone decides: 1 - 3/4.
    assert held_back(table, [4.0, 1.0]) == pytest.approx([1 / 4, 1 / 4])


@pytest.mark.parametrize(
    ("values", "batches"),
    [([1.0, 1.0], 1), ([1.0, 3.0], 2), ([-1.0, -3.0], 2), ([1.0, -0.5], 72), ([1.0], math.inf)],
)
def test_batches_until_the_sign_of_a_mean_is_known(values: list[float], batches: float) -> None:
    assert batches_until_known(values) == batches
