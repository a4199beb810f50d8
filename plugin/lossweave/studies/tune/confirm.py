"""Whole trainings of two configs as they stand, the user's own and the tuned one, seed by seed."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

from lossweave.host.paths import resolve_config
from lossweave.host.rungs import detections_of
from lossweave.studies.ledger.book import Book
from lossweave.studies.ledger.identity import code_of_today, machine_of_today
from lossweave.studies.ledger.result import Result
from lossweave.studies.runs.processes import call, threads_for
from lossweave.studies.tune.framework import framework_for
from lossweave.studies.tune.scores import METRICS, quality_of
from lossweave.studies.tune.setting import Setting
from lossweave.studies.tune.space import Point
from lossweave.studies.tune.trainings import STUDY, wait_for
from lossweave.utils.provenance import versions

__all__ = ["TUNED", "UNTUNED", "confirmed"]

#: What a confirmation's results are of.
UNTUNED, TUNED = "untuned config", "tuned config"


def confirmed(
    setting: Setting, tuned: Path, point: Point, seeds: Sequence[int], work_dir: Path, book: Book
) -> list[Result]:
    """Train both configs with every seed, and score them on the validation and the test split.

    Args:
        setting: the search's.
        tuned: the config that the search ended in.
        point: its weights and rate.
        seeds: others than the search's, which chose.
        work_dir: the study's.
        book: the ledger; what it holds is not trained again.

    Raises:
        LossweaveError: a training failed; its log is named.
    """
    found = []
    for seed in seeds:
        here = replace(setting, seed=seed)
        found.append(_obtained(here, UNTUNED, setting.config, None, work_dir, book))
        found.append(_obtained(here, f"{TUNED}, {point.method}", str(tuned), point, work_dir, book))
    return found


def _obtained(
    setting: Setting, method: str, config: str, point: Point | None, work_dir: Path, book: Book
) -> Result:
    name = "tuned" if point else "untuned"
    asked = Result(
        study=STUDY,
        config=setting.config,
        config_hash=setting.hash,
        method=method,
        seed=setting.seed,
        budget={**setting.budget, "rung": setting.length},
        options=setting.options,
        rate=point.rate if point else None,
        code=code_of_today(),
        machine=machine_of_today(threads_for(setting.jobs)),
        asked=setting.asked,
    )
    folder = work_dir / "confirm" / f"{name}_seed{setting.seed}"
    return book.obtain(asked, lambda one: _trained(one, setting, config, point, folder))


def _trained(
    asked: Result, setting: Setting, config: str, point: Point | None, folder: Path
) -> Result:
    wait_for(folder)
    framework = framework_for(setting.config)
    # The tuned config holds the options already.
    own = replace(setting, options=()) if point else setting
    train = [
        *("tools/train.py", resolve_config(config), "--work-dir", str(folder), "--exact-resume"),
        *("--cfg-options", *framework.rung_options(own, None, [setting.length])),
    ]
    resume = ["--resume"] if (folder / "last_checkpoint").is_file() else []
    began = time.monotonic()
    call([*train[:4], *resume, *train[4:]], folder / "log.txt", setting.jobs)
    seconds = time.monotonic() - began
    found = detections_of(folder, setting.length)
    val = quality_of(found, setting.annotations, setting.classes).as_dict()
    scores = {f"val_{metric}": val[metric] for metric in METRICS}
    tested = framework.test_scores(own, config, folder)
    scores.update({f"test_{metric}": score for metric, score in tested.items()})
    return replace(
        asked,
        date=date.today().isoformat(),
        command=shlex.join(["python", *train]).replace(train[1], config),
        scores=scores,
        seconds={"training": seconds},
        versions=versions(),
        details=dict(weights=point.weights if point else None),
    )
