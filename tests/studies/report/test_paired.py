"""What a handful of paired seeds can tell."""

import pytest
from scipy import stats

from lossweave.studies.report.paired import differences, paired_interval, spread


def test_interval_is_students() -> None:
    values = [0.1, 0.4, 0.2, 0.3]
    mean, half = paired_interval(values)
    low, high = stats.t.interval(0.95, 3, loc=mean, scale=stats.sem(values))
    assert (mean - half, mean + half) == pytest.approx((low, high))
    assert paired_interval([0.1]) == (0.1, float("inf"))


def test_spread_leaves_out_what_is_missing() -> None:
    found = spread([1.0, float("nan"), 3.0])
    assert (found.count, found.mean, found.low, found.high) == (2, 2.0, 1.0, 3.0)
    assert spread([]).count == 0 and spread([]).text() == "-" and spread([2.0]).sign == 0
    assert differences({0: 1.0, 1: 5.0, 2: 1.0}, {1: 2.0, 0: 1.0}) == {0: 0.0, 1: 3.0}
