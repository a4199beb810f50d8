"""The questions that comparisons answer, a row each: answer, effect, command, cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from lossweave.studies.compare.findings import ComparisonFindings
from lossweave.studies.compare.report import together_text
from lossweave.studies.compare.tiers import Ranks, verdict_of
from lossweave.studies.ledger.result import Result
from lossweave.studies.report.blocks import write_block
from lossweave.studies.report.questions import Question, cost_of, questions_table
from lossweave.studies.weights.findings import WeightFindings, find_weights
from lossweave.studies.weights.report import front_verdict, trade_verdict

__all__ = ["Answers", "questions_of", "write_questions"]


@dataclass(frozen=True)
class Answers:
    """A comparison with what is needed to say what it answers.

    Args:
        name: its folder's.
        command: that asks for it.
        found: its findings.
        results: of its ledger.
    """

    name: str
    command: str
    found: ComparisonFindings
    results: Sequence[Result]


#: The block of a folder's README.md where the table goes.
_BLOCK = "questions"


def write_questions(questions: Sequence[Question], folder: str | Path) -> None:
    """Write the table into the folder's README.md where that has a place for it.

    The place is between the lines ``<!-- questions, by make results -->`` and
    ``<!-- end of questions -->``; without it the table goes into ``questions.md``.

    Args:
        questions: of all studies.
        folder: where it goes.
    """
    table = questions_table(questions)
    if not write_block(Path(folder) / "README.md", _BLOCK, table):
        page = f"# Questions and answers\n\nMade from the ledgers.\n\n{table}\n"
        (Path(folder) / "questions.md").write_text(page)


def questions_of(answers: Sequence[Answers], ranks: Sequence[Ranks]) -> list[Question]:
    """What comparisons answer.

    Args:
        answers: of the comparisons.
        ranks: of every two of them.
    """
    found = []
    for one in answers:
        found.append(
            Question(
                "Does a combiner beat the tuned sum?",
                f"[{one.name}]({one.name}/comparison.md)",
                together_text(one.found),
                _effect(one.found),
                cost_of(one.results),
                one.command,
            )
        )
        if (weights := find_weights(one.found.compared)) is not None:
            found.append(
                Question(
                    "Is there a front of classification against localisation?",
                    f"[{one.name}]({one.name}/weights.md)",
                    front_verdict(weights),
                    _spread(weights),
                    "the same trainings",
                    one.command,
                )
            )
            found.append(
                Question(
                    "Is the corner of cls against loc, over their weights, the best weighting?",
                    f"[{one.name}]({one.name}/weights.md)",
                    trade_verdict(weights),
                    f"sd of AP over seeds {weights.sd:.4f}" if isfinite(weights.sd) else "one seed",
                    "the same trainings",
                    one.command,
                )
            )
    for two in ranks:
        found.append(
            Question(
                "Do the ranks of a small tier hold in a larger one?",
                f"[{' and '.join(tier.name for tier in two.tiers)}](tiers.md)",
                verdict_of(two),
                f"tau {two.tau:+.2f} ({two.low:+.2f} to {two.high:+.2f})",
                "the same trainings",
                "make results",
            )
        )
    return found


def _effect(found: ComparisonFindings) -> str:
    rows = [row for row in found.rows if row["method"] != found.tuned and row["differences"]]
    if not rows:
        return "-"
    best = max(rows, key=lambda row: row["difference"])
    half = found.many.half_widths[best["method"]]
    interval = f" ± {half:.3f}" if isfinite(half) else " (one seed)"
    return f"{best['difference']:+.3f}{interval}, the largest ({best['method']})"


def _spread(found: WeightFindings) -> str:
    if not isfinite(found.sd_found):
        return "one seed"
    return f"sd over seeds {found.sd_found:.3f} in AP50, {found.sd_exact:.3f} in AP75 / AP50"
