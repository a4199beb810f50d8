"""What should hold of a boundary's cost."""

import pytest

from lossweave.studies.benchmark.boundary_findings import (
    FLAT,
    TORCHJD,
    BoundaryCosts,
    heads_limit,
    k_pass_limit,
)
from lossweave.studies.benchmark.boundary_report import result_text
from lossweave.studies.benchmark.detectors import CONTROL
from lossweave.studies.benchmark.timing import PairedTimes


def test_limit() -> None:
    assert k_pass_limit(1.0, 1.0, 1) == 1.0
    assert k_pass_limit(1.0, 3.0, 3) == 2.5


def test_heads_limit() -> None:
    assert heads_limit(1.0, 3.0, 2.0, [2.0]) == 1.0  # one term
    assert heads_limit(1.0, 3.0, 2.0, [0.5, 0.5, 1.0]) == 1.0  # nothing is shared above
    assert heads_limit(1.0, 3.0, 2.0, [1.5, 1.5]) == 1.25
    everything = heads_limit(1.0, 3.0, 3.0, [3.0] * 3)  # nothing lies below
    assert everything == k_pass_limit(1.0, 3.0, 3)


def test_what_should_hold() -> None:
    ratios = {
        CONTROL: 1.0, "representation": 1.07, "features": 1.05, "parameters": 1.6, FLAT: 1.55,
        TORCHJD: 1.7,
    }  # fmt: skip
    times = {name: PairedTimes((1.0,), (ratio,)) for name, ratio in ratios.items()}
    peaks = {CONTROL: 900, "features": 960, "parameters": 1100}
    result = BoundaryCosts(
        "ssd", "PCGrad", 1.0, 1.0, 2, times, {}, peaks, 100, {"features": 4, "parameters": 100}
    )
    held = {check.what: check.held for check in result.checks()}
    assert held == {
        "representation: time to stock": False,
        "features: time to stock": True,
        "parameters: time to 1.05 K-pass": False,  # 1.05 times 1.5
        f"parameters: time to {TORCHJD}": True,
        f"parameters: time to {FLAT}": False,
        "features: memory to its limit": False,  # 1060 beside 1050 + 8
        "parameters: memory to its limit": True,  # 1200 beside 1050 + 200
    }


@pytest.mark.parametrize(("by_term", "held"), [((0.5, 0.5), True), ((0.3, 0.3), False)])
def test_shared_layers_above_the_features(by_term: tuple[float, ...], held: bool) -> None:
    times = {"features": PairedTimes((1.0,), (1.15,))}
    result = BoundaryCosts(
        "faster_rcnn", "PCGrad", 1.0, 2.0, 2, times, {}, {CONTROL: 1}, heads=0.6,
        heads_by_term=by_term,
    )  # fmt: skip
    stock, heads = result.checks()
    assert (stock.what, stock.most, stock.held) == ("features: time to stock", 1.06, False)
    assert heads.what == "features: time to 1.05 heads' limit" and heads.held == held
    assert heads.most == pytest.approx(1.05 * (3.0 - 0.6 + sum(by_term)) / 3.0)
    text = result_text(result)
    assert f"{result.heads_limit:.3f}" in text and f"{heads.most:.3f}" in text
