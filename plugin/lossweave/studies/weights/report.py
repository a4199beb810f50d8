"""What the sums of a comparison say of their weights, in Markdown with two pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from lossweave.studies.report.paired import spread
from lossweave.studies.report.tables import counted, markdown_table, number
from lossweave.studies.runs.method import Score
from lossweave.studies.weights.findings import SIDES, WeightFindings, find_weights
from lossweave.studies.weights.plots import plot_front, plot_trade
from lossweave.utils.files import write_json

__all__ = ["front_verdict", "trade_verdict", "write_weights"]

#: Methods of which no names are needed.
_MANY = 4


def write_weights(scores: Sequence[Score], config: str, command: str, folder: str | Path) -> bool:
    """Write ``weights.md``, ``weights.json``, ``front.png`` and ``trade.png``.

    Args:
        scores: those that are compared.
        config: the detector's.
        command: that asked for them.
        folder: where they go.

    Returns:
        Whether there were weightings enough; else nothing is written.
    """
    found = find_weights(scores)
    if found is None:
        return False
    folder = Path(folder)
    plot_front(found, folder / "front.png")
    plot_trade(found, folder / "trade.png")
    write_json(folder / "weights.json", asdict(found))
    (folder / "weights.md").write_text(_text(found, config, command))
    return True


def front_verdict(found: WeightFindings) -> str:
    """Whether the sums form a front, and where the other methods are.

    Args:
        found: of the sums and the methods.
    """
    sums = [place for place in found.places if not place.where]
    front = [place for place in sums if place.on_front]
    verb = "is" if len(front) == 1 else "are"
    said = f"{len(front)} of {len(sums)} weightings {verb} on the front"
    if len(front) > 1:
        found_by, exact_by = (
            max(front, key=lambda p: getattr(p, axis)) for axis in ("found", "exact")
        )
        said += (
            f", from AP50 {found_by.found:.3f} with AP75 / AP50 {found_by.exact:.3f} "
            f"({found_by.method}) to {exact_by.found:.3f} with {exact_by.exact:.3f} "
            f"({exact_by.method})"
        )
        if not found.ends_apart(found_by, exact_by):
            said += ", ends that are not told apart in both qualities"
    for where in ("beyond", "inside", "on", "not told"):
        methods = [place.method for place in found.places if place.where == where]
        if methods or where == "beyond":
            named = ", ".join(methods) or "none"
            if len(methods) > _MANY and where in ("on", "not told"):
                named = f"the {len(methods)} others"
            said += f"; {SIDES[where]}: {named}"
    return said + "."


def trade_verdict(found: WeightFindings) -> str:
    """Whether the corner of the curve of the two losses is the best weighting.

    Args:
        found: of the sums.
    """
    best = max(found.weightings, key=lambda weighting: weighting.val)
    if found.corner is None:
        return (
            "The curve of the two losses has no corner; the best AP on validation is at "
            f"alpha = {best.alpha:.3g}."
        )
    corner = next(w for w in found.weightings if w.ratio == found.corner)
    if corner is best:
        return f"The corner, alpha = {corner.alpha:.3g}, is the best one by AP on validation, too."
    shared = sorted(set(corner.scores) & set(best.scores))
    lost = spread([corner.scores[seed] - best.scores[seed] for seed in shared])
    return (
        f"The corner is at alpha = {corner.alpha:.3g}, the best AP on validation at "
        f"{best.alpha:.3g}; the corner minus the best on the test split: {lost.text()}."
    )


def _text(found: WeightFindings, config: str, command: str) -> str:
    header = ["method", "seeds", "AP50", "AP75 / AP50", "where"]
    rows = [
        [
            place.method,
            str(place.seeds),
            number(place.found),
            number(place.exact),
            SIDES[place.where] if place.where else "front" if place.on_front else "a sum",
        ]
        for place in found.places
    ]
    shared = ", ".join(map(str, found.shared)) or "none, so of each its own"
    one = len({place.seeds for place in found.places}) == 1 and found.places[0].seeds == 1
    spread = "one seed each" if one else (
        f"the spread over seeds, pooled over all methods, is {found.sd_found:.4f} in AP50 and "
        f"{found.sd_exact:.4f} in AP75 / AP50"
    )  # fmt: skip
    return f"""# What the weights of the sum do

## Is there a front?

{front_verdict(found)}

{markdown_table(header, rows)}

AP50 on the test split says what is found and named rightly; AP75 / AP50 says for which share of
that the box is good, too. A method is beyond (inside) the front where it is better (worse) than
some weighting on it in both, by Student's tests of differences that are paired by seed, with one
spread for all of them and a level of 0.05 that they share. What is neither is not told apart from
the front. Which weightings are on the front is read off their means;
{spread}.
{counted(len(found.weightings), "weighting")} of the sum were tried.

![Classification against localisation](front.png)

## The two losses against each other

{trade_verdict(found)}

{_trade_table(found)}

The sum is cls + b x loc, or alpha cls + (1 - alpha) loc up to a factor, with `{config}`. The losses
are those that were logged last, of a few batches, so the curve is a rough one; they and val AP are
of the seeds that all weightings have ({shared}). Its corner is where
it bends most in the plane of the logarithms, as for a penalty's L-curve. When the scale itself
matters, under which optimizer and clipping, is a study of its own, `tools/scale.py`.

![The two losses, and AP over alpha](trade.png)

Command: `{command}`
"""


def _trade_table(found: WeightFindings) -> str:
    rows = [
        [
            f"{weighting.alpha:.3g}",
            f"{weighting.ratio:g}",
            str(len(weighting.scores)),
            number(weighting.cls),
            number(weighting.loc),
            number(weighting.val),
            number(weighting.mean),
        ]
        for weighting in found.weightings
    ]
    return markdown_table(["alpha", "b", "seeds", "cls", "loc", "val AP", "test AP"], rows)
