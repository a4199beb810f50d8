"""Timing on toys, and the whole benchmark on a shrunk detector."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from lossweave import LossweaveError
from lossweave.studies import PairedTimes, interleaved
from lossweave.studies.benchmark import study
from lossweave.studies.benchmark.study import CONTROL, Benchmark, run_benchmark, value_combiners
from lossweave.studies.benchmark.syncs import count_syncs
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


def test_syncs_in_forward_and_backward() -> None:
    class Reads(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):  # type: ignore[no-untyped-def]
            return x * 2

        @staticmethod
        def backward(ctx, grad):  # type: ignore[no-untyped-def]
            return grad * grad.sum().item()

    x = torch.ones(3, requires_grad=True)
    assert count_syncs(lambda: (x * 2).sum().backward()) == 0
    assert count_syncs(lambda: Reads.apply(x).sum().backward()) == 1
    assert count_syncs(lambda: x.detach()[x > 0]) == 1
    assert count_syncs(lambda: bool(x.sum() > 0)) == 1


def test_benchmark(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = Benchmark(
        ("retinanet",),
        ("Sum", "FAMO"),
        rounds=2,
        repeats=10,
        batch_size=1,
        device="cpu",
        work_dir=str(tmp_path),
    )
    (result,) = run_benchmark(asked)
    assert list(result.costs) == [CONTROL, "Sum", "FAMO"]
    assert all(cost.added_syncs == 0 for cost in result.costs.values())
    assert result.costs["FAMO"].own.difference > 0
    assert 0 < result.hook_seconds < result.step_seconds
    content = json.loads((tmp_path / "benchmark.json").read_text())
    assert len(content["results"][0]["costs"]["Sum"]["step"]["a"]) == 2
    text = (tmp_path / "benchmark.md").read_text()
    assert "| FAMO |" in text and "stock (control)" in text
    assert "FAMO" in capsys.readouterr().out


def test_wrong_names() -> None:
    with pytest.raises(LossweaveError, match="detector 'yolo'"):
        run_benchmark(Benchmark(("yolo",)))
    with pytest.raises(LossweaveError, match="unknown combiner 'Sun'"):
        run_benchmark(Benchmark(combiners=("Sun",)))


def test_what_needs_gradients_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    everything = value_combiners()
    monkeypatch.setattr(study.combiner_class("Sum"), "needs_gradients", True, raising=False)
    assert set(everything) - set(value_combiners()) == {"Sum"}
