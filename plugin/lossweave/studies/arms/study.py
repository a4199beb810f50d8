"""Trains what the ledger lacks of some arms, and measures it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from lossweave.studies.arms.arm import Arm, Asked, trial_of
from lossweave.studies.ledger.book import Book
from lossweave.studies.ledger.result import Result
from lossweave.studies.runs.method import Trial
from lossweave.studies.runs.processes import run_all
from lossweave.studies.runs.results import filled, wanted
from lossweave.studies.runs.training import train_and_test

__all__ = ["PLACES", "Measure", "lacking", "train_arms"]

#: Of a finished training that did not diverge: what the study reads from it.
Measure = Callable[[Trial], Mapping[str, Any]]
#: Where a result's details have the arm's places.
PLACES = "places"


def train_arms(
    book: Book,
    study: str,
    asked: Asked,
    trainings: Sequence[tuple[Arm, int]],
    measure: Measure,
    what: str = "trainings",
) -> list[Result]:
    """The results of arms with seeds, in this order; what the ledger lacks is trained.

    A training that diverges is a result, with AP 0, and is not measured.

    Args:
        book: the study's ledgers.
        study: its name.
        asked: what all trainings share.
        trainings: arms with seeds.
        measure: what else a result keeps among its details.
        what: the title of the bar.

    Raises:
        LossweaveError: a training that failed otherwise (its log is named).
    """
    work = [partial(_obtained, book, study, asked, arm, seed, measure) for arm, seed in trainings]
    return run_all(work, asked.jobs, what)


def lacking(book: Book, study: str, asked: Asked, trainings: Sequence[tuple[Arm, int]]) -> str:
    """What would be trained, in words."""
    return book.plan_text(
        [wanted(study, trial_of(asked, arm, seed), asked.command) for arm, seed in trainings],
        [f"{arm.name}, seed {seed}" for arm, seed in trainings],
    )


def _obtained(
    book: Book, study: str, asked: Asked, arm: Arm, seed: int, measure: Measure
) -> Result:
    trial = trial_of(asked, arm, seed)

    def train(one: Result) -> Result:
        result = filled(one, train_and_test(trial))
        found = {} if "diverged" in result.details else measure(trial)
        return replace(result, details={**result.details, PLACES: dict(arm.places), **found})

    result = book.obtain(wanted(study, trial, asked.command), train)
    # One training may stand for several arms: where weights are tuned, and in what follows.
    return replace(result, details={**result.details, PLACES: dict(arm.places)})
