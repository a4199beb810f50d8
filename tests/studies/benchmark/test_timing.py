"""Paired timing on toys."""

import numpy as np
import pytest

from lossweave.studies import PairedTimes, interleaved
from lossweave.studies.benchmark.timing import paired_round


@pytest.mark.parametrize("flip", [False, True])
def test_a_linear_drift_cancels(flip: bool) -> None:
    clock = iter(np.arange(4.0))
    assert paired_round(lambda: next(clock), lambda: next(clock), flip) == (1.5, 1.5)


def test_order_of_a_round() -> None:
    calls: list[str] = []

    def step(name: str) -> float:
        calls.append(name)
        return 1.0

    interleaved(lambda: step("a"), {"b": lambda: step("b")}, rounds=2)
    assert "".join(calls) == "abba" + "baab"


def test_ratio_under_noise_that_both_share() -> None:
    generator = np.random.default_rng(1)
    load = 1.0

    def slow(seconds: float) -> float:
        nonlocal load
        load *= float(np.exp(0.01 * generator.normal()))
        return seconds * load

    times = interleaved(
        lambda: slow(1.0), {"more": lambda: slow(1.1), "same": lambda: slow(1.0)}, rounds=60
    )
    low, high = times["more"].interval()
    assert low < 1.1 < high and high - low < 0.02
    low, high = times["same"].interval()
    assert low < 1.0 < high


def test_interval_of_differences() -> None:
    times = PairedTimes((1.0,) * 9, tuple(np.linspace(1.1, 1.3, 9)))
    low, high = times.interval("differences")
    assert 0.1 <= low < times.difference < high <= 0.3
    assert times.quantiles(0, 1) == pytest.approx((1.1, 1.3))
