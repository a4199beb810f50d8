"""Trainings in rungs: started, gone on with, scored at every rung, and kept in the ledger."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

from lossweave.errors import LossweaveError, NonFiniteLossError
from lossweave.host.lock import locked
from lossweave.host.paths import resolve_config
from lossweave.host.rungs import detections_of
from lossweave.studies.ledger.book import Book
from lossweave.studies.ledger.identity import code_of_today, machine_of_today
from lossweave.studies.ledger.result import Result
from lossweave.studies.runs.processes import call, last_line, threads_for
from lossweave.studies.tune.framework import framework_for
from lossweave.studies.tune.scores import METRICS, Quality, quality_of
from lossweave.studies.tune.setting import Setting
from lossweave.studies.tune.space import Point
from lossweave.utils.provenance import versions

__all__ = ["STUDY", "train_rungs", "wait_for", "wanted"]

STUDY = "tune"
_GLANCE = 1.0


def wanted(setting: Setting, point: Point, rung: int) -> Result:
    """What is asked for: a point's training, up to a rung, by today's code on this machine."""
    return Result(
        study=STUDY,
        config=setting.config,
        config_hash=setting.hash,
        method=point.method,
        seed=setting.seed,
        budget={**setting.budget, "rung": rung},
        options=setting.options,
        rate=point.rate,
        code=code_of_today(),
        machine=machine_of_today(threads_for(setting.jobs)),
        asked=setting.asked,
    )


def train_rungs(
    setting: Setting, point: Point, rungs: Sequence[int], folder: Path, book: Book
) -> list[Result]:
    """The results of a point at rungs, of which those that are lacking are trained.

    A training goes on from the checkpoint that is in its folder. One whose loss stops being
    finite has AP 0 from there on.

    Args:
        setting: what all trainings share.
        point: this one's weights and rate.
        rungs: ascending.
        folder: the training's own.
        book: the ledger.

    Raises:
        LossweaveError: the training failed; its log is named.
    """
    asked = [wanted(setting, point, rung) for rung in rungs]
    book.reread()
    known = [book.found(one) for one in asked]
    if all(known):
        return [one for one in known if one is not None]
    wait_for(folder)
    method, *options = point.method.split()
    options_of = framework_for(setting.config).rung_options
    train = [
        *("tools/train.py", resolve_config(setting.config), "--work-dir", str(folder)),
        *("--exact-resume", "--combiner", method, "--combiner-options", *options),
        *("--cfg-options", *options_of(setting, point.rate, rungs)),
    ]
    resume = ["--resume"] if (folder / "last_checkpoint").is_file() else []
    command = shlex.join(["python", *train]).replace(train[1], setting.config)
    began, diverged = time.monotonic(), ""
    try:
        call([*train[:4], *resume, *train[4:]], folder / "log.txt", setting.jobs)
    except NonFiniteLossError:
        diverged = last_line(folder / "log.txt")
    seconds = time.monotonic() - began
    _keep_newest(folder)
    results = []
    for one, before in zip(asked, known, strict=True):
        rung = one.budget["rung"]
        found = detections_of(folder, rung)
        if before is not None:
            results.append(before)
            continue
        quality = Quality(0.0, 0.0, 0.0, dict.fromkeys(METRICS, (0.0,)))
        if found.is_file():
            quality = quality_of(found, setting.annotations, setting.classes)
        elif not diverged:
            raise LossweaveError(f"{folder} holds no detections of rung {rung}")
        details: dict[str, Any] = dict(left_out=quality.as_dict()["left_out"], ratios=point.ratios)
        if diverged and not found.is_file():
            details["diverged"] = diverged
        results.append(
            book.add(
                replace(
                    one,
                    date=date.today().isoformat(),
                    command=command,
                    scores={m: quality.as_dict()[m] for m in METRICS},
                    # All of the process, evaluations included, is the last rung's.
                    seconds={"training": seconds} if one is asked[-1] else {},
                    versions=versions(),
                    details=details,
                )
            )
        )
    return results


def wait_for(folder: Path) -> None:
    """Make a folder; a training that a killed worker has left running in it is waited for."""
    while True:
        try:
            with locked(folder):
                return
        except LossweaveError:
            if not folder.is_dir():
                raise
        time.sleep(_GLANCE)


def _keep_newest(folder: Path) -> None:
    """Only the checkpoint that is gone on from is kept."""
    try:
        newest = Path((folder / "last_checkpoint").read_text().strip()).name
    except OSError:
        return
    for path in folder.glob("*.pth"):
        if path.name != newest:
            path.unlink(missing_ok=True)
