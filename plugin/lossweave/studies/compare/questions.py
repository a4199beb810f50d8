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
from lossweave.studies.report.tables import counted
from lossweave.studies.weights.findings import WeightFindings, find_weights
from lossweave.studies.weights.report import front_verdict, scale_verdict

__all__ = ["Answers", "questions_text", "write_questions"]


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


def write_questions(answers: Sequence[Answers], ranks: Sequence[Ranks], folder: str | Path) -> None:
    """Write ``questions.md``.

    Args:
        answers: of the comparisons below the folder.
        ranks: of every two of them.
        folder: where it goes.
    """
    (Path(folder) / "questions.md").write_text(questions_text(answers, ranks))


def questions_text(answers: Sequence[Answers], ranks: Sequence[Ranks]) -> str:
    """The page, in Markdown.

    Args:
        answers: of the comparisons.
        ranks: of every two of them.
    """
    rows = []
    for one in answers:
        report = f"[{one.name}]({one.name}/comparison.md)"
        cost, command = _cost(one.results), f"`{one.command}`"
        rows.append(
            ["Does a combiner beat the tuned sum?", report, together_text(one.found),
             _effect(one.found), cost, command]
        )  # fmt: skip
        if (weights := find_weights(one.found.compared)) is not None:
            report = f"[{one.name}]({one.name}/weights.md)"
            rows += [
                ["Is there a front of classification against localisation?", report,
                 front_verdict(weights), _spread(weights), "the same trainings", command],
                ["When does the scale of a loss matter?", report, scale_verdict(weights),
                 f"sd of AP over seeds {weights.sd:.4f}" if isfinite(weights.sd) else "one seed",
                 "the same trainings", command],
            ]  # fmt: skip
    for two in ranks:
        names = " and ".join(tier.name for tier in two.tiers)
        effect = f"tau {two.tau:+.2f} ({two.low:+.2f} to {two.high:+.2f})"
        rows.append(
            ["Do the ranks of a small tier hold in a larger one?", f"[{names}](tiers.md)",
             verdict_of(two), effect, "the same trainings", "`make results`"]
        )  # fmt: skip
    header = ["question", "report", "answer", "effect", "cost", "command"]
    lines = [header, [":---"] * len(header), *rows]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return f"""# Questions that comparisons answer

Made from the ledgers by `make results`. All of it is on small pictures and small networks; how it
was done, and what could have been seen, is in the [protocol](protocol.md). An effect is a
difference of AP with the 95 % interval of the spread that is pooled over methods.

{table}
"""


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


def _cost(results: Sequence[Result]) -> str:
    known = [r.seconds["training"] for r in results if r.seconds.get("training")]
    hours = f", {sum(known) / 3600:.1f} hours" if known else ""
    return f"{counted(len(results), 'training')}{hours}"
