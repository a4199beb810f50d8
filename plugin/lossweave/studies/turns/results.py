"""The study of turns and the ledger: its rows, and back to outcomes and report.

A ledger of it has three kinds of results: trainings; the two plain steps of a seed; and of a
training the distance of its weights to those of the half-weighted sum, once both are there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from typing import Any

from lossweave.studies.ledger.facts import facts_of
from lossweave.studies.ledger.result import Result
from lossweave.studies.report.questions import Question
from lossweave.studies.runs.record import RunRecord
from lossweave.studies.runs.results import filled, score_of
from lossweave.studies.turns.findings import Answers, Outcome, Turns, answer, standard_methods
from lossweave.studies.turns.report import write_turns
from lossweave.studies.turns.verdict import rows_of

__all__ = [
    "FIRST_ORDER",
    "STUDY",
    "distance_wanted",
    "measured",
    "outcomes_of",
    "questions",
    "report",
    "report_turns",
    "trained",
    "turns_of",
]

#: The study's name in a ledger.
STUDY = "turns"
#: What a seed's two plain steps are called there.
FIRST_ORDER = "two plain steps"
_DISTANCE = "distance of "
_TURNS = "turns of "


def trained(asked: Result, outcome: Outcome) -> Result:
    """The result of a training."""
    result = filled(asked, outcome.score)
    more = dict(part=outcome.part, held_out=outcome.held_out, run=outcome.run.as_dict())
    return replace(result, details={**result.details, **more})


def distance_wanted(training: Result) -> Result:
    """The distance of a training's weights, which is of the training's own code and machine."""
    return replace(
        training,
        method=f"{_DISTANCE}{training.method}",
        scores={},
        losses={},
        seconds={},
        details={},
    )


def measured(asked: Result, **found: Any) -> Result:
    """The result of a measurement."""
    return replace(asked, date=date.today().isoformat(), details=found)


def outcomes_of(results: Sequence[Result]) -> list[Outcome]:
    """The trainings among some results, each with its distances if they are there."""
    apart = {
        (result.method.removeprefix(_DISTANCE), result.seed, result.place): result.details["apart"]
        for result in results
        if result.method.startswith(_DISTANCE)
    }
    found = []
    for result in results:
        if not _is_training(result):
            continue
        own = {k: v for k, v in result.details.items() if k not in ("part", "held_out", "run")}
        distances = apart.get((result.method, result.seed, result.place), {})
        found.append(
            Outcome(
                part=result.details["part"],
                score=score_of(replace(result, details=own)),
                held_out=_numbers(result.details["held_out"]),
                run=RunRecord.from_dict(result.details["run"]),
                apart={int(iteration): value for iteration, value in distances.items()},
            )
        )
    return found


def turns_of(results: Sequence[Result], work_dir: str) -> Turns:
    """The study that asks for just these results."""
    trainings = [result for result in results if _is_training(result)]
    parts = dict.fromkeys(result.details["part"] for result in trainings)
    lengths = [int(part.removeprefix(_TURNS)) for part in parts if part.startswith(_TURNS)]
    return Turns(
        seeds=tuple(dict.fromkeys(result.seed for result in trainings)),
        lengths=tuple(lengths),
        also=tuple(part for part in parts if part not in standard_methods(lengths)),
        config=results[0].config,
        work_dir=work_dir,
        options=results[0].options,
        command=facts_of(results)["command"],
    )


def report_turns(turns: Turns, results: Sequence[Result]) -> list[Outcome]:
    """Write the report of results.

    Args:
        turns: what was asked for.
        results: what came of it.

    Returns:
        The trainings.
    """
    outcomes = outcomes_of(results)
    facts = facts_of(
        results,
        config=turns.config,
        seeds=turns.seeds,
        lengths=turns.lengths,
        options=turns.options,
    )
    write_turns(turns, outcomes, _answers(turns, results), facts)
    return outcomes


def report(results: Sequence[Result], work_dir: str) -> None:
    """Write the report of a ledger's results."""
    report_turns(turns_of(results, work_dir), results)


def questions(results: Sequence[Result], name: str) -> list[Question]:
    """The rows of the table of questions."""
    turns = turns_of(results, "")
    trainings = [result for result in results if _is_training(result)]
    return rows_of(turns, _answers(turns, results), name, STUDY, trainings)


def _answers(turns: Turns, results: Sequence[Result]) -> Answers:
    steps = [r.details["first_order"] for r in results if r.method == FIRST_ORDER]
    return answer(outcomes_of(results), turns.lengths, steps)


def _is_training(result: Result) -> bool:
    return "run" in result.details


def _numbers(values: Mapping[str, float | None]) -> dict[str, float]:
    return {name: float("nan") if value is None else value for name, value in values.items()}
