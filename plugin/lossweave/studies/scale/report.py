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
from lossweave.studies.scale.findings import (
    CLEAR_OF_ONE,
    Curve,
    ScaleFindings,
    Tuned,
    find_scale,
)
from lossweave.studies.scale.plots import plot_scales
from lossweave.studies.scale.study import STUDY

__all__ = ["answer", "questions", "report", "verdict"]

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
    """The rows of the table of questions."""
    found = find_scale(results)
    effect = "; ".join(f"{name}: {said}" for name, said in _beside_one(found).items())
    effect = f"AP minus that at b = 1, rates chosen anew: {effect}" if effect else "-"
    return [question_of(_ASKED, name, STUDY, answer(found), effect, results)]


def answer(found: ScaleFindings) -> str:
    """The verdict in one sentence: from where to where b does not matter."""
    if not found.curves:
        return verdict(found)
    said = [_level(curve) for curve in found.curves if curve not in found.dead]
    said = [f"AP is not clearly below that at b = 1 for {', for '.join(said)}"] if said else []
    said += [f"{curve.name} does not learn at its rate, whatever b" for curve in found.dead]
    return f"{'; '.join(said)}."


def verdict(found: ScaleFindings) -> str:
    """By curve: from where to where b does not matter, and where loc becomes the main loss."""
    if not found.curves:
        return "Not shown: no curve has a training at b = 1."
    learning = [curve for curve in found.curves if curve not in found.dead]
    said = [_said(curve) for curve in learning]
    chosen = [(curve, one) for curve in found.curves for one in curve.tuned if one.factor != 1]
    taken = [_taken(curve, one) for curve, one in chosen if one.takes_back]
    others = [_taken(curve, one) for curve, one in chosen if not one.takes_back]
    levelled = [f"{name}, {said}" for name, said in _beside_one(found).items()]
    parts = [f"No AP is clearly below that at b = 1: {'; '.join(said)}."] if said else []
    parts += [
        f"{curve.name} at the rate {curve.rate:g} does not learn at b = 1 (AP {curve.at_one:.3f}), "
        "so that its curve tells nothing."
        for curve in found.dead
    ]
    parts += [f"A rate chosen anew takes back: {'; '.join(taken)}."] if taken else []
    parts += [f"That it does is not shown: {'; '.join(others)}."] if others else []
    if levelled:
        parts.append(
            f"With rates chosen anew, AP minus that at b = 1: {'; '.join(levelled)}."
        )
    return " ".join(parts)


def _taken(curve: Curve, tuned: Tuned) -> str:
    return (
        f"{curve.name}, b = {tuned.ratio:g}: rate x {tuned.factor:g}, {tuned.text(tuned.gain)} AP"
    )


def _beside_one(found: ScaleFindings) -> dict[str, str]:
    """By curve, the ratios at which the rate was chosen anew, beside 1; without those of none."""
    said = {
        curve.name: ", ".join(
            f"b = {one.ratio:g} {one.text(one.beside_one)}"
            for one in curve.tuned
            if one.beside_one.count
        )
        for curve in found.curves
    }
    return {name: text for name, text in said.items() if text}


def _level(curve: Curve) -> str:
    low, high = curve.level()
    if low == high:
        return f"{curve.name} at no other b"
    return f"{curve.name} from b = {low:g} to {high:g}"


def _said(curve: Curve) -> str:
    low, high = curve.level()
    ends = (curve.scales[0].ratio, curve.scales[-1].ratio)
    last = [f"{value:g}" for value, end in zip((low, high), ends, strict=True) if value == end]
    text = _level(curve)
    if last and low != high:
        text += f" ({' and '.join(last)} being the last tried)"
    main = curve.main_from()
    if main is not None:
        text += f", b x loc being the larger half of the sum from b = {main:g} on"
        half = curve.half_at()
        text += "" if half is None else f" (half of it at about b = {half:.2g})"
    diverged = [f"{s.ratio:g}" for s in curve.scales if s.diverged]
    if diverged:
        text += f", diverging at b = {', '.join(diverged)}"
    return text


def _parts(found: ScaleFindings, results: Sequence[Result]) -> list[str]:
    seeds = len({result.seed for result in results})
    budget = budget_text(results[0].budget)
    clear = (
        "two standard errors of the difference, by the spread over seeds that is pooled over what "
        "did not diverge of the curve"
        if any(isfinite(curve.sd) for curve in found.curves)
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
        f"is the config's, of the gradient's norm. Every training has the same budget ({budget}). "
        "The intervals of the table are Student's over the seeds, those above are of the pooled "
        "spread, without correction for their number.",
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
    spread_text = (
        f"\n\nA training's AP has an sd of {curve.sd:.4f} over seeds, pooled."
        if isfinite(curve.sd)
        else ""
    )
    return f"## {curve.name}, rate {curve.rate:g}\n\n{markdown_table(header, rows)}{spread_text}"


def _tried(tried: Mapping[float, float]) -> str:
    return ", ".join(f"x {factor:g}: {ap:.3f}" for factor, ap in tried.items())
