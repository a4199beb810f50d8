"""A row of the table of questions: a question, and what a study's ledger answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lossweave.studies.ledger.facts import facts_of
from lossweave.studies.ledger.result import Result
from lossweave.studies.report.tables import counted

__all__ = ["Question", "cost_of", "question_of", "questions_table"]


@dataclass(frozen=True)
class Question:
    """A question with its answer.

    Args:
        asked: the question.
        report: a link to where the answer is from.
        answer: in a sentence, which may be that nothing is shown.
        effect: a number with its interval.
        cost: trainings and hours.
        command: that answers it from a fresh clone.
    """

    asked: str
    report: str
    answer: str
    effect: str
    cost: str
    command: str


def questions_table(questions: Sequence[Question]) -> str:
    """The rows as a Markdown table."""
    header = ["question", "report", "answer", "effect", "cost", "command"]
    rows = [[q.asked, q.report, q.answer, q.effect, q.cost, f"`{q.command}`"] for q in questions]
    lines = [header, [":---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def cost_of(results: Sequence[Result]) -> str:
    """How many trainings, and the hours that they took."""
    known = [r.seconds["training"] for r in results if r.seconds.get("training")]
    hours = f", {sum(known) / 3600:.1f} hours" if known else ""
    return f"{counted(len(results), 'training')}{hours}"


def question_of(
    asked: str, name: str, study: str, answer: str, effect: str, results: Sequence[Result]
) -> Question:
    """The row of a study.

    Args:
        asked: the question.
        name: of the ledger's folder.
        study: of the page in it.
        answer: in a sentence.
        effect: with an interval.
        results: of the ledger.
    """
    link = f"[{name}]({name}/{study}.md)"
    return Question(
        asked, link, answer, effect, cost_of(results), facts_of(results)["command"]
    )
