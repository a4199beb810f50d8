"""The comparison over seeds: which sum is the tuned one, and what the intervals say."""

import pytest
from scipy import stats

from lossweave.errors import LossweaveError
from lossweave.studies.compare import Comparison, run_comparison, summarize
from lossweave.studies.paired import paired_interval
from lossweave.studies.plots import plot_scores
from lossweave.studies.trainings import Method, Score


def _scores() -> list[Score]:
    # On validation the second sum is best; on test the first is.
    val = {"Sum": 0.50, "Sum weights=[1,2]": 0.55, "DWA": 0.52}
    test = {"Sum": 0.60, "Sum weights=[1,2]": 0.50, "DWA": 0.53}
    noise = {0: 0.00, 1: 0.02, 2: -0.01}
    wobble = {"DWA": {0: 0.001, 1: -0.001, 2: 0.0}}
    return [
        Score(m, s, val[m] + e, test[m] + e + wobble.get(m, {}).get(s, 0), 0.9)
        for m in val
        for s, e in noise.items()
    ]


def test_the_sum_is_tuned_on_validation_and_judged_on_test() -> None:
    tuned, rows = summarize(_scores())
    assert tuned == "Sum weights=[1,2]"
    by_method = {row["method"]: row for row in rows}
    assert by_method["DWA"]["difference"] == pytest.approx(0.03)
    # Paired: what a seed does to all methods cancels.
    assert by_method["DWA"]["half_width"] == pytest.approx(stats.t.ppf(0.975, 2) * 0.001 / 3**0.5)
    assert by_method["Sum"]["half_width"] == pytest.approx(0, abs=1e-9)
    assert by_method["DWA"]["seeds"] == 3


def test_interval_is_students() -> None:
    values = [0.1, 0.4, 0.2, 0.3]
    mean, half = paired_interval(values)
    low, high = stats.t.interval(0.95, 3, loc=mean, scale=stats.sem(values))
    assert (mean - half, mean + half) == pytest.approx((low, high))
    assert paired_interval([0.1]) == (0.1, float("inf"))


@pytest.mark.parametrize(
    ("comparison", "message"),
    [
        (Comparison((Method("DWA"),)), "needs at least one Sum"),
        (Comparison((Method("Sum"), Method("Sum"))), "named twice"),
        (Comparison((Method("Sum"),), seeds=()), "needs a seed"),
    ],
)
def test_wrong_input(comparison, message) -> None:
    with pytest.raises(LossweaveError, match=message):
        run_comparison(comparison)


def test_methods_are_parsed() -> None:
    with pytest.raises(LossweaveError, match="did you mean 'Sum'"):
        Method.parse("Summ")
    assert Method.parse("DWA period=50 temperature=1.0").folder == "DWA_period-50_temperature-1.0"


def test_plot(tmp_path) -> None:
    path = plot_scores(_scores(), "Sum", tmp_path / "scores.png")
    assert path.stat().st_size > 5000
