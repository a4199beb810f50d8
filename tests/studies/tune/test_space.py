"""Weights from ratios, with their sum held."""

import numpy as np
import pytest

from lossweave.errors import LossweaveError
from lossweave.studies.tune.space import Space, weights_of


@pytest.mark.parametrize("ratios", [[0.0], [3.0], [-2.5], [1.0, -1.0, 0.3]])
def test_the_sum_in_units_of_the_start_is_held(ratios: list[float]) -> None:
    start = [2.0 ** (k - 1) for k in range(len(ratios) + 1)]
    weights = np.array(weights_of(ratios, start))
    assert (weights / start).mean() == pytest.approx(1.0, abs=1e-5)
    logs = np.log2(weights / start)
    assert logs[:-1] - logs[-1] == pytest.approx(ratios, abs=1e-3)


def test_what_is_not_searched_stays() -> None:
    start = (3.0, 1.0)
    rate = Space(("a", "b"), start, 0.1, octaves=0.0)
    assert rate.names == ("log2_rate",) and rate.point({"log2_rate": 1.0}).weights == start
    weights = Space(("a", "b"), start, 0.1, rate_octaves=(0.0, 0.0))
    assert weights.names == ("log2_a_to_b",) and weights.point({"log2_a_to_b": 1.0}).rate == 0.1


@pytest.mark.parametrize(
    ("terms", "start", "rate", "message"),
    [
        (("a",), (1.0,), 0.1, "one term has no ratio"),
        (("a", "b"), (1.0,), 0.1, "a number above 0 for each of a, b"),
        (("a", "b"), (1.0, float("inf")), 0.1, "a number above 0"),
        (("a", "b"), (1.0, 1.0), 0.0, "not above 0"),
    ],
)
def test_spaces_that_are_none(
    terms: tuple[str, ...], start: tuple[float, ...], rate: float, message: str
) -> None:
    with pytest.raises(LossweaveError, match=message):
        Space(terms, start, rate)
