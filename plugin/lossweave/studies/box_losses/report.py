"""The report: verdict, tables, and two pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from lossweave.studies.arms.report import cell, write_page
from lossweave.studies.box_losses.findings import QUANTITIES, REFERENCE, LossFindings, find_losses
from lossweave.studies.box_losses.plots import plot_distributions, plot_errors
from lossweave.studies.box_losses.study import LOSSES, STUDY
from lossweave.studies.ledger.result import Result
from lossweave.studies.report.paired import Spread
from lossweave.studies.report.questions import Question, question_of
from lossweave.studies.report.tables import budget_text, counted, markdown_table

__all__ = ["questions", "report", "verdict"]

_ASKED = "Square or absolute error: which box loss goes after outliers?"
_SQUARED = "L2"
#: What the verdict is about.
_SAID = "median error"


def report(results: Sequence[Result], work_dir: str) -> None:
    """Write ``box_losses.md``, ``box_losses.json`` and the pictures from a ledger's results."""
    found = find_losses(results)
    folder = Path(work_dir)
    folder.mkdir(parents=True, exist_ok=True)
    plot_errors(found, folder / "errors.png")
    plot_distributions(found, results, folder / "distributions.png")
    page = write_page(folder, STUDY, _parts(found, results), results, asdict(found))
    print(f"\n{verdict(found)}\n\n{page}")


def questions(results: Sequence[Result], name: str) -> list[Question]:
    """The rows of the table of questions."""
    found = find_losses(results)
    effect = _effect(found)
    said = f"{effect.text() if effect else '-'} in the median"
    return [question_of(_ASKED, name, STUDY, verdict(found), said, results)]


def verdict(found: LossFindings) -> str:
    """Whether the squared error goes after the wrong boxes more than the absolute one does."""
    most = found.shares[-1]
    effect = _effect(found)
    if effect is None or not effect.count:
        return "Not shown: L2 and L1 have not been trained with wrong boxes and the same seeds."
    share = f"{100 * most:g} % of the training boxes grossly wrong"
    changed = {loss: found.harm[_SAID][loss][most].text() for loss in (_SQUARED, REFERENCE)}
    numbers = (
        f"the median error of a box changes by {changed[_SQUARED]} of its side under L2 and by "
        f"{changed[REFERENCE]} under L1 (L2 minus L1 {effect.text()})"
    )
    if effect.sign > 0:
        said = f"L2 goes after the outliers more than L1 does: with {share} {numbers}."
    elif effect.sign < 0:
        said = f"L1 suffers more from the outliers than L2 does: with {share} {numbers}."
    else:
        said = f"That L2 goes after the outliers more than L1 is not shown: with {share} {numbers}."
    return f"{said} {_others(found, most)}".strip()


def _others(found: LossFindings, share: float) -> str:
    others = [loss for loss in found.beside[_SAID] if loss != _SQUARED]
    parts = [
        f"{loss} {found.beside[_SAID][loss][share].text()}"
        for loss in others
        if share in found.beside[_SAID][loss]
    ]
    return f"The same change minus that of L1: {', '.join(parts)}." if parts else ""


def _effect(found: LossFindings) -> Spread | None:
    return found.beside.get(_SAID, {}).get(_SQUARED, {}).get(found.shares[-1])


def _parts(found: LossFindings, results: Sequence[Result]) -> list[str]:
    seeds = len({result.seed for result in results})
    budget = budget_text(results[0].budget)
    losses = "\n".join(
        f"- {loss}: {LOSSES[loss].text}, weight {found.weights[loss]:g} of "
        + ", ".join(f"{w:g} (AP {ap:.3f})" for w, ap in sorted(found.tried[loss].items()))
        + _edge(found, loss)
        for loss in found.losses
    )
    return [
        f"# Square or absolute error, and outliers: {counted(seeds, 'seed')}",
        verdict(found),
        _table(found.means, signed=False),
        "An error is the mean distance of a box's four sides from those of its object, over the "
        "square root of the object's area; of the objects that were found on the clean test "
        "split, each by the box of its class with the highest score that overlaps it by 0.1 or "
        "more. 'found' is their share. Wrong boxes are moved by half of their sides or more and "
        "have up to twice or half of their size, the same ones in every epoch and for every "
        f"loss. Every training has the same budget ({budget}); intervals are Student's at 95 %, "
        "over the seeds.",
        "A detector with anchors regresses each box from the anchors that overlap it enough. So a "
        "box that is grossly wrong is the target of other anchors than the right one would be, and "
        "the offsets that the loss sees stay small: it is an outlier on the picture, hardly one in "
        "the head's units.",
        "![Errors and AP over the share of wrong boxes](errors.png)",
        "![Distribution of the errors](distributions.png)",
        "## What the wrong boxes change\n\nMinus the same loss on clean boxes, paired by seed:\n\n"
        + _table(found.harm),
        f"What they change for a loss, minus what they change for {REFERENCE}:\n\n"
        + _table(found.beside),
        f"## Beside {REFERENCE}\n\nThe loss minus {REFERENCE} on the same boxes:\n\n"
        + _table(found.between),
        "## The losses\n\nEvery loss has the weight, of three a factor of 3 apart, with the best "
        "AP on the validation split after a training on clean boxes with the first seed:\n\n"
        + losses,
    ]


def _edge(found: LossFindings, loss: str) -> str:
    tried = sorted(found.tried[loss])
    if len(tried) > 1 and found.weights[loss] in (tried[0], tried[-1]):
        return ": at the edge of those tried, beyond which a better one may lie"
    return ""


def _table(
    by_quantity: Mapping[str, Mapping[str, Mapping[float, Spread]]], signed: bool = True
) -> str:
    first = by_quantity[_SAID]
    rows = [
        [f"{loss}, {100 * share:g} %"]
        + [cell(by_quantity[name][loss][share], signed) for name in QUANTITIES]
        for loss in first
        for share in first[loss]
    ]
    return markdown_table(["loss, wrong boxes", *QUANTITIES], rows)
