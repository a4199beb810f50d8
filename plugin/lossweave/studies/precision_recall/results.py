"""The study and the ledger: its rows, and back to a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lossweave.studies.ledger.facts import facts_of
from lossweave.studies.ledger.result import Result
from lossweave.studies.precision_recall.curves import Curves
from lossweave.studies.precision_recall.findings import Asked, find
from lossweave.studies.precision_recall.rates import at_own_rate, find_tuned
from lossweave.studies.precision_recall.report import sentence, write_detectors
from lossweave.studies.report.questions import Question, question_of

__all__ = ["STUDY", "alike", "questions", "report", "report_detectors", "with_curves"]

#: The study's name in a ledger.
STUDY = "precision_recall"
_TUNED = ", each at the best of several rates"


def with_curves(result: Result, curves: Curves) -> Result:
    """The result of a training with its curves, rounded to what the test split can tell."""
    rows = [[round(value, 4) for value in row] for row in curves.precision]
    return replace(result, details={**result.details, "precision": rows})


def alike(result: Result) -> Any:
    """Detectors are compared: all but the config is the same."""
    return (result.study, result.method, tuple(sorted(result.budget.items())), result.options)


def report_detectors(asked: Asked, results: Sequence[Result]) -> None:
    """Write the report of results.

    Args:
        asked: what was asked for.
        results: what came of it.
    """
    facts = facts_of(results, configs=asked.configs, seeds=asked.seeds, options=asked.options)
    found = find(at_own_rate(results), all_known=results)
    write_detectors(asked.work_dir, results, found, facts, find_tuned(results))


def report(results: Sequence[Result], work_dir: str) -> None:
    """Write the report of a ledger's results."""
    asked = Asked(
        configs=tuple(dict.fromkeys(result.config for result in results)),
        seeds=tuple(dict.fromkeys(result.seed for result in results)),
        method=results[0].method,
        work_dir=work_dir,
        options=results[0].options,
    )
    report_detectors(asked, results)


def questions(results: Sequence[Result], name: str) -> list[Question]:
    """The rows of the table of questions."""
    found, tuned = find(at_own_rate(results), all_known=results), find_tuned(results)
    rows = []
    for one in found.names[1:]:
        answer, effects = sentence(found, one), [found.apart[one]["AP"].text()]
        if tuned is not None and one in tuned.found.apart:
            answer = f"{answer} {sentence(tuned.found, one, _TUNED)}"
            effects.append(f"{tuned.found.apart[one]['AP'].text()}{_TUNED}")
        rows.append(
            question_of(
                f"What does {one} change of recall and precision beside {found.names[0]}?",
                name,
                STUDY,
                answer,
                f"{'; '.join(effects)} AP",
                [r for r in results if Path(r.config).stem in (one, found.names[0])],
            )
        )
    return rows
