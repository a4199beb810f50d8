"""The report: verdict, tables, and three pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from math import isfinite
from pathlib import Path

from lossweave.studies.arms.report import cell, write_page
from lossweave.studies.ledger.result import Result
from lossweave.studies.regularisation.findings import (
    SPARSE,
    Curve,
    Point,
    RegularisationFindings,
    find_regularisation,
)
from lossweave.studies.regularisation.plots import plot_l_curves, plot_strengths, plot_weights
from lossweave.studies.regularisation.study import STUDY
from lossweave.studies.report.paired import spread
from lossweave.studies.report.questions import Question, question_of
from lossweave.studies.report.tables import budget_text, counted, markdown_table, number

__all__ = ["answer", "questions", "report", "verdict"]

_ASKED = "Is the corner of the L-curve the best lambda?"
_TITLES = {"l1": "The l1 penalty", "l2": "The l2 penalty", "decay": "AdamW's decay"}


def report(results: Sequence[Result], work_dir: str) -> None:
    """Write ``regularisation.md``, its JSON and the pictures from a ledger's results."""
    found = find_regularisation(results)
    folder = Path(work_dir)
    folder.mkdir(parents=True, exist_ok=True)
    plot_l_curves(found, folder / "l_curve.png")
    plot_strengths(found, folder / "strength.png")
    plot_weights(found, folder / "weights.png")
    page = write_page(folder, STUDY, _parts(found, results), results, asdict(found))
    print(f"\n{verdict(found)}\n\n{page}")


def questions(results: Sequence[Result], name: str) -> list[Question]:
    """The rows of the table of questions."""
    found = find_regularisation(results)
    effect = "; ".join(_effect(curve) for curve in found.curves.values())
    return [question_of(_ASKED, name, STUDY, answer(found), effect or "-", results)]


def answer(found: RegularisationFindings) -> str:
    """The verdict in one sentence: whether corners are the best, and what raises AP."""
    said = [_corner(curve) for kind, curve in found.curves.items() if kind != "decay"]
    raising = [kind for kind, curve in found.curves.items() if _raising(curve)]
    others = [kind for kind in found.curves if kind not in raising]
    said += [f"some strength of {', '.join(raising)} raises AP"] if raising else []
    said += [f"no strength of {', '.join(others)} is shown to raise AP"] if others else []
    return f"{'; '.join(said)}."


def _corner(curve: Curve) -> str:
    best = f"{curve.best:g}" if curve.best else "none"
    if curve.corner is None:
        return f"{curve.kind}'s curve has no corner (its best lambda by AP on validation: {best})"
    is_best = "the best lambda, too" if curve.corner == curve.best else f"the best being {best}"
    return f"{curve.kind}'s corner is at {curve.corner:g}, {is_best}"


def _effect(curve: Curve) -> str:
    if curve.lost.count and curve.kind != "decay":
        return f"{curve.kind}: corner minus best {curve.lost.text()} AP"
    if not curve.best:
        return f"{curve.kind}: none is the best"
    best = next(point for point in curve.points if point.strength == curve.best)
    return f"{curve.kind}: best ({curve.best:g}) minus none {best.gain.text()} AP"


def verdict(found: RegularisationFindings) -> str:
    """For each kind, where the corner is, where the best AP is, and what the corner costs."""
    said = [_said(curve) for kind, curve in found.curves.items() if kind != "decay"]
    gains = [_gain(curve) for curve in found.curves.values()]
    return " ".join([*said, *gains, *_sparsity(found)])


def _sparsity(found: RegularisationFindings) -> list[str]:
    """What l1 makes zero that l2 and the decay only make small."""
    most = {
        kind: max(100 * spread(point.sparse).mean for point in curve.points)
        for kind, curve in found.curves.items()
    }
    first = next(iter(found.curves.values())).points[0]
    if "l1" not in most or first.strength:
        return []
    named = ", ".join(f"{kind} at most {share:.0f} %" for kind, share in most.items())
    return [
        f"Of the weights {100 * spread(first.sparse).mean:.0f} % are {SPARSE} without any; {named}."
    ]


def _said(curve: Curve) -> str:
    best = f"{curve.best:g}" if curve.best else "no penalty at all"
    seeds = ", ".join(f"{value:g}" for value in curve.corners)
    if curve.corner is None:
        several = f"; that of single seeds has one at {seeds}" if seeds else ""
        return (
            f"{curve.kind}: the curve through {len(curve.points)} strengths has no corner (it "
            f"nowhere turns by 15 degrees on logarithmic axes{several}); the best AP on validation "
            f"is with {best}."
        )
    own = f"by seed {seeds}" if seeds else "of the seeds' means; no seed's own curve has one"
    where = f"{curve.kind}: the corner is at lambda {curve.corner:g} ({own})"
    if curve.corner == curve.best:
        return f"{where}, which is the best one by AP on validation, too."
    shown = {
        1: "whose test AP is above, all the same",
        0: "a difference in test AP that is not shown",
        -1: "and the corner's test AP is below",
    }[curve.lost.sign]
    return f"{where}, the best one by AP on validation is {best}, {shown} ({curve.lost.text()})."


def _raising(curve: Curve) -> list[Point]:
    return [p for p in curve.points if p.strength and p.gain.sign > 0]


def _gain(curve: Curve) -> str:
    shown = _raising(curve)
    lower = [p for p in curve.points if p.strength and p.gain.sign < 0]
    costs = ""
    if lower:
        least = min(lower, key=lambda point: point.strength)
        costs = f"; the weakest that is shown to lower it is {least.strength:g}"
        costs += f" ({least.gain.text()})"
    if not shown:
        return f"No strength of {curve.kind} is shown to raise AP{costs}."
    best = max(shown, key=lambda point: point.gain.mean)
    return f"{curve.kind} at {best.strength:g} raises test AP by {best.gain.text()}{costs}."


def _parts(found: RegularisationFindings, results: Sequence[Result]) -> list[str]:
    seeds = len({result.seed for result in results})
    budget = budget_text(results[0].budget)
    sd = f"{found.sd:.4f}" if isfinite(found.sd) else "not known with one seed"
    tables = [
        f"## {_TITLES[kind]}\n\n{markdown_table(*_table(curve))}"
        for kind, curve in found.curves.items()
    ]
    return [
        f"# Penalties and the corner of the L-curve: {counted(seeds, 'seed')}",
        verdict(found),
        "A penalty is one more loss, added with the factor lambda: l1 is lambda times the sum of "
        "|w|, l2 lambda / 2 times that of w², AdamW's decay takes lr times lambda times w "
        f"away at every step, beside the gradient. All of them on the same {found.modules:,} "
        "weights and biases, whose size is read after the training; the data's loss is the mean "
        "of the other losses over the last 100 iterations. The corner is the point at which the "
        "curve in the plane of the logarithms bends most, by the circle through a point and its "
        "neighbours (Hansen 1992 puts the best lambda there). Trainings with a penalty have no "
        f"decay. Every training has the same budget ({budget}); intervals are Student's at 95 %, "
        f"over the seeds; the spread of AP over seeds, pooled, is {sd}.",
        "![L-curves](l_curve.png)",
        "![AP over lambda](strength.png)",
        "![What becomes of the weights](weights.png)",
        *tables,
    ]


def _table(curve: Curve) -> tuple[list[str], list[list[str]]]:
    size = "sum abs w" if curve.kind == "l1" else "sum w² / 2"
    header = ["lambda", "data's loss", size, f"weights {SPARSE}", "val AP", "test AP",
              "minus none", ""]  # fmt: skip
    rows = []
    for point in curve.points:
        marks = [
            *(["corner"] if point.strength == curve.corner else []),
            *(["best"] if point.strength == curve.best else []),
        ]
        rows.append(
            [
                f"{point.strength:g}",
                number(spread(point.data).mean),
                f"{spread(point.size).mean:.4g}",
                f"{100 * spread(point.sparse).mean:.1f} %",
                number(spread(point.val).mean),
                cell(spread(point.ap), signed=False),
                cell(point.gain) if point.strength else "",
                ", ".join(marks),
            ]
        )
    return header, rows
