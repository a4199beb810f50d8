"""AP over b, and b x loc's share of the sum."""

from __future__ import annotations

from pathlib import Path

from lossweave.studies.arms.plots import draw_lines, finish, legend_below
from lossweave.studies.report.plots import COLORS
from lossweave.studies.scale.findings import ScaleFindings

__all__ = ["plot_scales"]


def plot_scales(found: ScaleFindings, path: str | Path) -> Path:
    """A column an optimizer: AP over b with and without clipping, and loc's share below.

    Args:
        found: what to draw.
        path: the picture to write.
    """
    from matplotlib.figure import Figure

    optimizers = list(dict.fromkeys(curve.optimizer for curve in found.curves))
    figure = Figure(figsize=(4.8 * len(optimizers), 5.8), layout="constrained")
    panels = figure.subplots(2, len(optimizers), sharex=True, sharey="row", squeeze=False,
                             height_ratios=(2, 1))  # fmt: skip
    for (upper, lower), optimizer in zip(panels.T, optimizers, strict=True):
        own = [curve for curve in found.curves if curve.optimizer == optimizer]
        draw_lines(upper, {c.clipping: {s.ratio: s.scores for s in c.scales} for c in own})
        for rank, curve in enumerate(own):
            better = [tuned for tuned in curve.tuned if tuned.factor != 1]
            if better:
                upper.plot(
                    [tuned.ratio for tuned in better],
                    [sum(tuned.scores) / len(tuned.scores) for tuned in better],
                    "*",
                    color=COLORS[rank],
                    markersize=11,
                    markeredgecolor="white",
                    label=f"{curve.clipping}, at a rate chosen anew",
                )
            shares = [(s.ratio, s.share) for s in curve.scales]
            lower.plot(*zip(*shares, strict=True), "o-", color=COLORS[rank], markersize=4)
        lower.axhline(0.5, color="0.6", linewidth=0.8)
        finish(upper, title=f"{optimizer}, rate {own[0].rate:g}", xscale="log")
        finish(lower, xlabel="b", xscale="log", ylim=(-0.03, 1.03))
        upper.set_ylim(bottom=0)
    panels[0, 0].set_ylabel("test AP")
    panels[1, 0].set_ylabel("share of b x loc")
    legend_below(figure, panels[0], columns=2)
    figure.suptitle("The sum cls + b x loc")
    figure.savefig(path, dpi=110)
    return Path(path)
