"""Results of detectors beside each other, made by hand."""

from typing import Any

from helpers.ledger_results import result
from lossweave.studies.ledger.result import Result


def detector_result(name: str, seed: int, knee: int, **changes: Any) -> Result:
    """A detector whose precision is 1 up to a recall of ``knee`` hundredths, and 0.4 beyond.

    At IoU 0.75 the knee is at half of it.
    """
    rows = [
        [1.0 if recall <= at else 0.4 for recall in range(101)] for at in (knee, knee, knee // 2)
    ]
    return result(
        "Sum",
        seed,
        test=knee / 100,
        study="precision_recall",
        config=f"configs/{name}.py",
        config_hash=name,
        asked="python tools/precision_recall.py",
        losses={"s0.loss_cls": 0.1} if name == "cascade" else {"loss_cls": 0.2},
        details={"precision": rows},
        **changes,
    )


def several(*, seeds: int = 3) -> list[Result]:
    """A cascade that reaches 10 hundredths more recall than the reference, give or take one."""
    return [
        detector_result(name, seed, knee + seed)
        for seed in range(seeds)
        for name, knee in (("faster", 60), ("cascade", 70 + seed % 2))
    ]
