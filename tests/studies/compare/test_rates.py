"""The rates of a sweep, and where it is too narrow."""

import pytest
from helpers.comparison_scores import plain_scores, score_at, sweep_scores, swept_scores

from lossweave.studies.compare.rates import best_rates, rate_edges, weights_at_edge
from lossweave.studies.runs.method import Method, Score


def _edges(scores: list[Score]) -> dict[str, str]:
    return rate_edges(scores, best_rates(scores))


def test_every_method_has_its_best_rate_on_validation() -> None:
    chosen = best_rates(sweep_scores())
    assert chosen == {
        "Sum": 2e-3,
        "Sum weights=[1,2]": 1e-3,
        "Sum weights=[2,1]": 1e-3,  # as good as 2e-3, and smaller
        "MGDA": 5e-4,
    }
    assert best_rates(sweep_scores()[::-1]) == chosen
    # Only the first seed has further rates, so choosing again changes nothing.
    assert best_rates(swept_scores()) == chosen
    assert best_rates(plain_scores()) == {}


def test_edges_of_the_sweep() -> None:
    assert _edges(sweep_scores()) == {"Sum": "largest", "MGDA": "smallest"}
    assert _edges(swept_scores()) == _edges(sweep_scores())
    # An edge is that of the rates at which this method was trained.
    assert _edges([*sweep_scores(), score_at("Sum", 0, 4e-3, 0.1)]) == {"MGDA": "smallest"}


@pytest.mark.parametrize(
    ("methods", "tuned", "expected"),
    [
        (("Sum", "Sum weights=[1,2]", "Sum weights=[2,1]"), 0, False),
        (("Sum", "Sum weights=[1,2]", "Sum weights=[2,1]"), 2, True),
        (("Sum", "Sum weights=[1,2]", "DWA"), 0, True),
        (("Sum", "DWA"), 0, None),
        (("Sum weights=[2,2]", "Sum"), 0, None),  # the same weighting at another scale
        (("Sum weights=3", "Sum weights=[1,2]", "Sum weights=[2,1]"), 0, False),
        (("Sum", "Sum weights={'cls':2}"), 0, None),
        (("Sum weights=[2,1,1]", "Sum weights=[1,2,1]", "Sum weights=[1,1,2]"), 0, True),
    ],
)
def test_edge_of_the_weights(methods, tuned, expected) -> None:
    parsed = [Method.parse(text) for text in methods]
    assert weights_at_edge(parsed, methods[tuned]) is expected
