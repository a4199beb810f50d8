"""The report: verdict, a table a curve, and a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from math import isfinite
from pathlib import Path

from lossweave.studies.arms.report import cell, write_page
from lossweave.studies.ledger.result import Result
from lossweave.studies.report.paired import spread
from lossweave.studies.report.questions import Question, question_of
from lossweave.studies.report.tables import budget_text, counted, markdown_table, number
from lossweave.studies.scale.findings import CLEAR_OF_ONE, Curve, ScaleFindings, find_scale
from lossweave.studies.scale.plots import plot_scales
from lossweave.studies.scale.study import STUDY

__all__ = ["questions", "report", "verdict"]

_ASKED = "When does the scale of a loss matter?"


def report(results: Sequence[Result], work_dir: str) -> None:
    """Write ``scale.md``, ``scale.json`` and ``scale.png`` from a ledger's results."""
    found = find_scale(results)
    folder = Path(work_dir)
    folder.mkdir(parents=True, exist_ok=True)
    if found.curves:
        plot_scales(found, folder / "scale.png")
    page = write_page(folder, STUDY, _parts(found, results), results, asdict(found))
    print(f"\n{verdict(found)}\n\n{page}")


def questions(results: Sequence[Result], name: str) -> list[Question]:
    """The rows of questions.md."""
    found = find_scale(results)
    effect = f"sd of AP over seeds {found.sd:.4f}" if isfinite(found.sd) else "one seed"
    return [question_of(_ASKED, name, STUDY, verdict(found), effect, results)]


def verdict(found: ScaleFindings) -> str:
    """By curve: from where to where b does not matter, and where loc becomes the main loss."""
    if not found.curves:
        return "Not shown: no curve has a training at b = 1."
    learning = [curve for curve in found.curves if curve not in found.dead]
    said = [_said(curve, found.sd) for curve in learning]
    taken = [
        f"{curve.name}, b = {tuned.ratio:g}: rate x {tuned.factor:g}, {tuned.gain.text()} AP"
        for curve in found.curves
        for tuned in curve.tuned
        if tuned.factor != 1
    ]
    parts = [f"No AP is clearly below that at b = 1: {'; '.join(said)}."] if said else []
    parts += [
        f"{curve.name} at the rate {curve.rate:g} does not learn at b = 1 (AP {curve.at_one:.3f}), "
        "so that its curve tells nothing."
        for curve in found.dead
    ]
    parts += [f"A rate chosen anew takes back: {'; '.join(taken)}."] if taken else []
    return " ".join(parts)


def _said(curve: Curve, sd: float) -> str:
    low, high = curve.level(sd)
    ends = (curve.scales[0].ratio, curve.scales[-1].ratio)
    last = [f"{value:g}" for value, end in zip((low, high), ends, strict=True) if value == end]
    text = f"{curve.name} from b = {low:g} to {high:g}"
    if last:
        text += f" ({' and '.join(last)} being the last tried)"
    main = curve.main_from()
    if main is not None:
        text += f", b x loc being the larger half of the sum from b = {main:g} on"
    diverged = [f"{s.ratio:g}" for s in curve.scales if s.diverged]
    if diverged:
        text += f", diverging at b = {', '.join(diverged)}"
    return text


def _parts(found: ScaleFindings, results: Sequence[Result]) -> list[str]:
    seeds = len({result.seed for result in results})
    budget = budget_text(results[0].budget)
    clear = (
        f"two standard errors of the difference, where the spread over seeds, pooled over all "
        f"that did not diverge, is {found.sd:.4f}"
        if isfinite(found.sd)
        else f"{CLEAR_OF_ONE:g} AP, since every arm has one seed"
    )
    picture = ["![AP over b](scale.png)"] if found.curves else []
    return [
        f"# The scale of one loss against the other's: {counted(seeds, 'seed')}",
        verdict(found),
        "The losses are cls + b x loc. A curve has one learning rate for every b; at some b the "
        "rate was chosen anew, from the factors below, by AP on the validation split with the "
        "first seed. The share is that of b x loc in the sum over the last 100 iterations. AP is "
        f"clearly below that at b = 1 from {clear}. A training that diverges has AP 0. Clipping "
        f"is the config's, of the gradient's norm. Every training has the same budget ({budget}).",
        *picture,
        *(_section(curve) for curve in found.curves),
    ]


def _section(curve: Curve) -> str:
    tuned = {one.ratio: one for one in curve.tuned}
    rows = []
    for scale in curve.scales:
        again = tuned.get(scale.ratio)
        rows.append(
            [
                f"{scale.ratio:g}",
                cell(spread(scale.scores), signed=False),
                f"{scale.diverged} of {len(scale.scores)}" if scale.diverged else "",
                number(scale.share),
                _tried(again.tried) if again else "",
                f"x {again.factor:g}" if again else "",
                cell(spread(again.scores), signed=False) if again and again.factor != 1 else "",
            ]
        )
    header = ["b", "test AP", "diverged", "share of b x loc", "val AP by factor of the rate",
              "chosen", "test AP there"]  # fmt: skip
    return f"## {curve.name}, rate {curve.rate:g}\n\n{markdown_table(header, rows)}"


def _tried(tried: Mapping[float, float]) -> str:
    return ", ".join(f"x {factor:g}: {ap:.3f}" for factor, ap in tried.items())
