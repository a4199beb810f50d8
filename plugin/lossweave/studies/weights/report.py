"""What the sums of a comparison say of their weights, in Markdown with two pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from math import isfinite
from pathlib import Path

from lossweave.studies.report.tables import counted, markdown_table, number
from lossweave.studies.runs.method import Score
from lossweave.studies.weights.findings import WeightFindings, find_weights
from lossweave.studies.weights.plots import plot_front, plot_scales
from lossweave.utils.files import write_json

__all__ = ["front_verdict", "scale_verdict", "write_weights"]


def write_weights(scores: Sequence[Score], config: str, command: str, folder: str | Path) -> bool:
    """Write ``weights.md``, ``weights.json``, ``front.png`` and ``scale.png``.

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
    plot_scales(found, folder / "scale.png")
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
    for where in ("beyond", "on", "inside", "not told"):
        methods = [place.method for place in found.places if place.where == where]
        if methods or where == "beyond":
            said += (
                f"; {where}{' it' if where != 'not told' else ''}: {', '.join(methods) or 'none'}"
            )
    return said + "."


def scale_verdict(found: WeightFindings) -> str:
    """From which scale on a loss's weight matters, and where it becomes the main one.

    Args:
        found: of the sums.
    """
    low, high = found.level()
    low_end, high_end = found.scales[0].ratio, found.scales[-1].ratio
    if not isfinite(found.sd):
        return "Every weighting has one seed, so that nothing can be told of small differences."
    said = f"No AP is clearly below that at b = 1 from b = {low:g} to {high:g}"
    ends = [f"{value:g}" for value, end in ((low, low_end), (high, high_end)) if value == end]
    if ends:
        said += f" ({' and '.join(ends)} being the last that was tried)"
    main = [scale.ratio for scale in found.scales if scale.share > 0.5]
    if main:
        said += (
            f"; b x loc is more than half of the sum at the end of training from b = {main[0]:g} on"
        )
    return said + "."


def _text(found: WeightFindings, config: str, command: str) -> str:
    header = ["method", "seeds", "AP50", "AP75 / AP50", "where"]
    rows = [
        [
            place.method,
            str(place.seeds),
            number(place.found),
            number(place.exact),
            place.where or ("front" if place.on_front else "a sum"),
        ]
        for place in found.places
    ]
    scales = [
        [
            f"{scale.ratio:g}",
            str(len(scale.scores)),
            number(scale.mean),
            number(scale.share),
        ]
        for scale in found.scales
    ]
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
some weighting on it in both, by more than two standard errors of the difference; {spread}.
{counted(len(found.scales), "weighting")} of the sum were tried.

![Classification against localisation](front.png)

## When does the scale of a loss matter?

{scale_verdict(found)}

{markdown_table(["b", "seeds", "test AP", "share of b x loc"], scales)}

The losses are cls + b x loc, the share is that of the losses at the end of training. The optimizer,
its rate and the clipping are those of `{config}`: under AdamW a factor before the whole sum hardly
counts, so b is the weights' ratio and no scale of the step.

![AP over b](scale.png)

Command: `{command}`
"""
