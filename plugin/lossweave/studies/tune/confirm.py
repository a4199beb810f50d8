"""Whole trainings of two configs as they stand, the user's own and the tuned one, seed by seed."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

from lossweave.host.paths import resolve_config
from lossweave.mmdet.configs import load_config
from lossweave.studies.ledger.book import Book
from lossweave.studies.ledger.identity import code_of_today, machine_of_today
from lossweave.studies.ledger.result import Result
from lossweave.studies.runs.processes import call, threads_for
from lossweave.studies.runs.training import read_test_metrics
from lossweave.studies.tune.scores import METRICS, quality_of
from lossweave.studies.tune.space import Point
from lossweave.studies.tune.trainings import STUDY, Setting, rung_options, wait_for
from lossweave.utils.provenance import versions

__all__ = ["TUNED", "UNTUNED", "confirmed"]

#: What a confirmation's results are of.
UNTUNED, TUNED = "untuned config", "tuned config"
_TEST = {
    "ap": "coco/bbox_mAP", "ap50": "coco/bbox_mAP_50", "ap75": "coco/bbox_mAP_75",
}  # fmt: skip


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
    log = folder / "log.txt"
    # The tuned config holds the options already.
    own = replace(setting, options=()) if point else setting
    train = [
        *("tools/train.py", resolve_config(config), "--work-dir", str(folder), "--exact-resume"),
        *("--cfg-options", *rung_options(own, None, [setting.length])),
    ]
    resume = ["--resume"] if (folder / "last_checkpoint").is_file() else []
    began = time.monotonic()
    call([*train[:4], *resume, *train[4:]], log, setting.jobs)
    seconds = time.monotonic() - began
    val = quality_of(
        folder / f"rung_{setting.length}.bbox.json", setting.annotations, setting.classes
    ).as_dict()
    scores = {f"val_{metric}": val[metric] for metric in METRICS}
    if load_config(config).get("test_evaluator") is not None:
        checkpoint = (folder / "last_checkpoint").read_text().strip()
        test = ["tools/test.py", resolve_config(config), checkpoint]
        given = [*own.options, *(o for o in setting.loading if o.startswith("test_"))]
        more = ["--cfg-options", *given] if given else []
        call([*test, "--work-dir", str(folder / "test"), *more], log, setting.jobs)
        metrics = read_test_metrics(folder / "test")
        scores.update({f"test_{name}": metrics.get(key, 0.0) for name, key in _TEST.items()})
    return replace(
        asked,
        date=date.today().isoformat(),
        command=shlex.join(["python", *train]).replace(train[1], config),
        scores=scores,
        seconds={"training": seconds},
        versions=versions(),
        details=dict(weights=point.weights if point else None),
    )
