"""Trainings of a search that are a formula: their scores are known, and cost nothing."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import log2
from pathlib import Path
from typing import Any

from lossweave.studies.ledger.book import Book
from lossweave.studies.ledger.result import Result
from lossweave.studies.tune.search import Tuning
from lossweave.studies.tune.setting import Setting
from lossweave.studies.tune.space import Point, Space
from lossweave.studies.tune.trainings import wanted

RATE = 0.002
SETTING = Setting(
    config="some.py", options=(), seed=0, length=200, unit="iterations",
    budget={"iterations": 200, "batch_size": 8}, hash="0123456789abcdef", rate=RATE,
    annotations="none.json", asked="python tools/tune.py some.py",
)  # fmt: skip
SPACE = Space(("cls", "loc"), (1.0, 1.0), RATE, rate_octaves=(-2.0, 1.0))


def score(point: Point, rung: int) -> float:
    """Best at a ratio of 2 and 1.41 times the rate; at every rung in the same order."""
    ratio, rate = point.ratios[0], log2(point.rate / RATE)
    return (rung / 200) ** 0.7 * (0.3 - 0.01 * (ratio - 1) ** 2 - 0.02 * (rate - 0.5) ** 2)


def fake_trainings(done: list[tuple[str, float, int]]) -> Callable[..., list[Result]]:
    """In place of ``train_rungs``; what it trains is noted in ``done``."""

    def train(
        setting: Setting, point: Point, rungs: Sequence[int], folder: Path, book: Book
    ) -> list[Result]:
        book.reread()
        results = []
        for rung in rungs:
            asked = wanted(setting, point, rung)
            known = book.found(asked)
            if known is None:
                done.append((point.method, point.rate, rung))
                value = score(point, rung)
                known = book.add(
                    replace(
                        asked,
                        date="2026-11-26",
                        scores={"ap": value, "ap50": value + 0.2, "ap75": 0.9 * value},
                        seconds={"training": 30.0},
                        details={
                            "ratios": list(point.ratios),
                            "left_out": {"ap": [value + 0.001 * g for g in range(10)]},
                        },
                    )
                )
            results.append(known)
        return results

    return train


def tuning(work_dir: Path, **changes: Any) -> Tuning:
    """A search of the formula."""
    made = dict(setting=SETTING, space=SPACE, fractions=(0.5, 0.75), budget=7.0)
    return Tuning(**{**made, "work_dir": str(work_dir), **changes})  # type: ignore[arg-type]
