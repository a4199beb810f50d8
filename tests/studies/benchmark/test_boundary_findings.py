"""What should hold of a boundary's cost."""

from lossweave.studies.benchmark.boundary_findings import FLAT, TORCHJD, BoundaryCosts, k_pass_limit
from lossweave.studies.benchmark.detectors import CONTROL
from lossweave.studies.benchmark.timing import PairedTimes


def test_limit() -> None:
    assert k_pass_limit(1.0, 1.0, 1) == 1.0
    assert k_pass_limit(1.0, 3.0, 3) == 2.5


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
