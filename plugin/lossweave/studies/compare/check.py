"""Rows of a ledger trained again: whether they say today what they said then."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from math import isfinite

from lossweave.errors import LossweaveError
from lossweave.studies.compare.results import STUDY
from lossweave.studies.ledger.book import Book
from lossweave.studies.ledger.identity import code_of_today
from lossweave.studies.ledger.result import Code, Machine, Result
from lossweave.studies.report.many import pooled_sd
from lossweave.studies.report.tables import counted, text_table
from lossweave.studies.runs.method import Method, Trial
from lossweave.studies.runs.processes import run_all
from lossweave.studies.runs.results import filled, wanted
from lossweave.studies.runs.training import serial_loading, train_and_test

__all__ = ["Again", "check_rows", "noise_of"]

#: On another kind of machine, or on a GPU: standard deviations over seeds that scores may be apart.
_APART = 3.0


@dataclass(frozen=True)
class Again:
    """A row and its repetition.

    Args:
        row: as it stands in the ledger.
        result: of today.
        allowed: how far apart their scores may be; 0 on CPUs of the same kind.
    """

    row: Result
    result: Result
    allowed: float

    @property
    def apart(self) -> float:
        """The largest difference of a score."""
        pairs = [(self.row.scores[name], self.result.scores[name]) for name in self.row.scores]
        return max(abs(a - b) for a, b in pairs)

    @property
    def agrees(self) -> bool:
        """Whether they say the same."""
        return self.apart <= self.allowed


def check_rows(
    book: Book, count: int, work_dir: str, jobs: int, command: str, draw: int = 0
) -> list[Again]:
    """Train random rows of a ledger again, and say whether they agree.

    A repetition by other code or on another machine is added to the ledger: it says whether the
    results of both may be compared.

    Args:
        book: the ledgers.
        count: how many rows; all where there are fewer.
        work_dir: where the trainings go.
        jobs: trainings at a time.
        command: that asked for it.
        draw: the seed of the choice.

    Raises:
        LossweaveError: there is nothing to check, a config has changed since, a training failed,
            or a row does not agree.
    """
    rows = [row for row in book.reading.results if row.study == STUDY]
    if not rows:
        raise LossweaveError(f"--check: {', '.join(book.paths)} has no result of a comparison")
    chosen = random.Random(draw).sample(rows, min(count, len(rows)))
    noise = noise_of(rows)
    trials = [_trial(row, work_dir, jobs) for row in chosen]
    asked = [wanted(STUDY, trial, command) for trial in trials]
    for row, today in zip(chosen, asked, strict=True):
        if row.training != today.training:
            raise LossweaveError(
                f"--check: {row.label}: {row.config} is {today.config_hash} today and was "
                f"{row.config_hash}"
            )
    for trial in trials:
        _forget_other_code(trial)
    work = [partial(train_and_test, trial) for trial in trials]
    scores = run_all(work, jobs, "rows again")
    found = []
    for row, today, score in zip(chosen, asked, scores, strict=True):
        result = filled(today, score)
        found.append(Again(row, result, 0.0 if _repeats(row.machine, result.machine) else noise))
        if row.place != result.place:
            book.add(result)
    print(f"\n{_table(found)}")
    if wrong := [again.row.label for again in found if not again.agrees]:
        raise LossweaveError(f"--check: {', '.join(wrong)}: other scores than in the ledger")
    print(f"{counted(len(found), 'row')} of {len(rows)} agree{_how(found)}")
    return found


def _repeats(then: Machine, now: Machine) -> bool:
    """Whether the numbers are the same to the last digit; a GPU's kernels add up in any order."""
    return then == now and then.accelerator is None


def _how(found: Sequence[Again]) -> str:
    """How far they agree: to the last digit, or within what is allowed elsewhere."""
    exact = sum(again.apart == 0 for again in found)
    if exact == len(found):
        return ", to the last digit"
    allowed = max(again.allowed for again in found)
    return f", {exact} of them to the last digit, the others within {allowed:.3f} AP"


def _forget_other_code(trial: Trial) -> None:
    """Remove a repetition that other code made in this folder: it says nothing of today's."""
    kept = trial.folder / "score.json"
    if kept.is_file():
        code = json.loads(kept.read_text()).get("details", {}).get("code", {})
        if Code(**code) != code_of_today():
            shutil.rmtree(trial.folder)


def noise_of(rows: Sequence[Result]) -> float:
    """How far apart scores of one training on two kinds of machine may be.

    Three standard deviations over seeds, pooled over methods; 0.05 where none has two seeds.

    Args:
        rows: of one setting.
    """
    tests: dict[str, list[float]] = {}
    for row in rows:
        tests.setdefault(f"{row.method} {row.rate}", []).append(row.scores["test"])
    sd = pooled_sd(list(tests.values()))[0]
    return _APART * sd if isfinite(sd) else 0.05


def _trial(row: Result, work_dir: str, jobs: int) -> Trial:
    options = (*serial_loading(row.config), *row.options)
    return Trial(
        Method.parse(row.method), row.seed, row.config, f"{work_dir}/again", options, jobs, row.rate
    )


def _table(found: Sequence[Again]) -> str:
    header = ["row", "test AP then", "again", "apart", "allowed", "agrees"]
    return text_table(
        header,
        [
            [
                again.row.label,
                f"{again.row.scores['test']:.3f}",
                f"{again.result.scores['test']:.3f}",
                f"{again.apart:.3f}",
                f"{again.allowed:.3f}",
                "yes" if again.agrees else "NO",
            ]
            for again in found
        ],
    )
