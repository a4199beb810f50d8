"""Searches as results of a ledger, and the report from a ledger alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from typing import Any

from lossweave.studies.ledger.book import Book
from lossweave.studies.ledger.facts import facts_of
from lossweave.studies.ledger.result import Result, hashed
from lossweave.studies.tune.findings import find
from lossweave.studies.tune.racing import Race
from lossweave.studies.tune.report import write_tune
from lossweave.studies.tune.search import Search, Tuning
from lossweave.studies.tune.trainings import STUDY, wanted
from lossweave.utils.provenance import versions

__all__ = ["STUDY", "alike", "report", "search_asked", "search_result"]


def alike(result: Result) -> str:
    """What all results of one report share: the config and a whole training's length."""
    budget = {name: value for name, value in result.budget.items() if name != "rung"}
    return hashed([result.config_hash or [result.config, *result.options], budget])


def search_asked(tuning: Tuning, replayed: bool) -> Result:
    """A search as a ledger knows it, without what came of it.

    Args:
        tuning: the search.
        replayed: whether its trainings were all in the ledger before.
    """
    point = tuning.space.point(tuning.first)
    rungs = ",".join(map(str, tuning.rungs))
    racing = f"rungs {rungs}" if tuning.race else "no rungs"
    kind = "replayed search" if replayed else "search"
    return replace(
        wanted(tuning.setting, point, tuning.setting.length),
        method=f"{kind} by {tuning.sampler}, {racing}, budget {tuning.budget:g}, {tuning.metric}",
        seed=tuning.sampler_seed,
        rate=None,
    )


def search_result(search: Search, race: Race, replayed: bool = False) -> Result:
    """What a search tried, how far, and what it chose."""
    tuning = search.tuning
    best = race.best
    tried: list[dict[str, Any]] = []
    for course in sorted(race.courses, key=lambda c: c.number):
        point = search.point(course)
        tried.append(
            dict(
                number=course.number,
                method=point.method,
                rate=point.rate,
                ratios=list(point.ratios),
                rungs={str(rung): score for rung, score in sorted(course.scores.items())},
            )
        )
    end = race.rungs[-1]
    chosen = None if best is None else search.point(best)
    return replace(
        search_asked(tuning, replayed),
        date=date.today().isoformat(),
        command=tuning.setting.asked,
        scores={tuning.metric: best.scores[end]} if best else {},
        versions=versions(),
        details=dict(
            terms=list(tuning.space.terms),
            start=list(tuning.space.start),
            own_rate=tuning.setting.rate,
            own_seed=tuning.setting.seed,
            unit=tuning.setting.unit,
            metric=tuning.metric,
            sampler=tuning.sampler,
            steps=tuning.space.steps,
            rungs=list(race.rungs),
            budget=tuning.budget,
            spent=round(race.spent(), 4),
            tried=tried,
            chosen=chosen.method if chosen else None,
            weights=list(chosen.weights) if chosen else None,
            rate=chosen.rate if chosen else None,
        ),
    )


def kept(book: Book, search: Search, race: Race, replayed: bool = False) -> Result:
    """The search's result, added to the ledger where that lacks it."""
    return book.obtain(
        search_asked(search.tuning, replayed), lambda _: search_result(search, race, replayed)
    )


def report(results: Sequence[Result], work_dir: str) -> None:
    """Write the report of results into a folder."""
    write_tune(find(results), work_dir, facts_of(results))
