"""Which sum is the tuned one, and what the intervals say."""

import pytest
from helpers.comparison_scores import plain_scores
from scipy import stats

from lossweave.studies.compare.findings import summarize


def test_the_sum_is_tuned_on_validation_and_judged_on_test() -> None:
    tuned, rows = summarize(plain_scores())
    assert tuned == "Sum weights=[1,2]"
    by_method = {row["method"]: row for row in rows}
    assert by_method["DWA"]["difference"] == pytest.approx(0.03)
    # Paired: what a seed does to all methods cancels.
    assert by_method["DWA"]["half_width"] == pytest.approx(stats.t.ppf(0.975, 2) * 0.001 / 3**0.5)
    assert by_method["Sum"]["half_width"] == pytest.approx(0, abs=1e-9)
    assert by_method["DWA"]["seeds"] == 3
