"""Results of a ledger, made by hand."""

from dataclasses import replace
from typing import Any

from lossweave.studies.ledger.result import Code, Machine, Result

HERE = dict(code=Code("0.1.0", "aaa"), machine=Machine("A CPU", 1, cores=2, system="Linux"))
OTHER_CODE: dict[str, Any] = {**HERE, "code": Code("0.1.0", "bbb")}
OTHER_MACHINE: dict[str, Any] = {**HERE, "machine": Machine("Another CPU", 1, cores=8)}


def result(method: str = "Sum", seed: int = 0, test: float = 0.5, **changes: Any) -> Result:
    """A result of a comparison."""
    made = Result(
        study="compare",
        config="some.py",
        config_hash="0123456789abcdef",
        method=method,
        seed=seed,
        budget={"iterations": 500, "batch_size": 4},
        date="2026-11-25",
        command=f"python tools/train.py some.py --combiner {method}",
        asked="python tools/compare.py --methods Sum DWA",
        scores={"val": test + 0.02, "test": test, "test50": test + 0.3},
        losses={"cls": 0.25, "loc": 0.5},
        seconds={"training": 120.0, "iteration": 0.25},
        details={"weights": {"cls": 1.0, "loc": 1.0}},
        **HERE,  # type: ignore[arg-type]
    )
    return replace(made, **changes)
