"""The plane of the two qualities, and AP over the scale of one loss."""

from __future__ import annotations

from math import isfinite
from pathlib import Path

from lossweave.studies.report.plots import COLORS
from lossweave.studies.weights.findings import WeightFindings

__all__ = ["plot_front", "plot_scales"]

_WHERE = {"inside": COLORS[1], "on": COLORS[3], "beyond": COLORS[2], "not told": "0.5"}


def plot_front(found: WeightFindings, path: str | Path) -> Path:
    """Classification against localisation: the sums as a line, every other method a dot.

    Args:
        found: what to draw; methods that find nothing are left out.
        path: the picture to write.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5.6), layout="constrained")
    axes = figure.subplots()
    shown = [place for place in found.places if isfinite(place.exact)]
    sums = [place for place in shown if not place.where]
    front = sorted((p for p in sums if p.on_front), key=lambda place: place.found)
    axes.plot(
        [p.found for p in front], [p.exact for p in front], "-", color=COLORS[0], linewidth=1.4
    )
    for place in shown:
        color = _WHERE.get(place.where, COLORS[0])
        axes.errorbar(
            place.found,
            place.exact,
            xerr=_error(found.sd_found, place.seeds),
            yerr=_error(found.sd_exact, place.seeds),
            fmt="s" if not place.where else "o",
            color=color,
            ecolor="0.75",
            elinewidth=1,
            markersize=6,
            markerfacecolor="white" if not place.where and not place.on_front else color,
        )
        axes.annotate(
            place.method.replace(" boundary=features", ""),
            (place.found, place.exact),
            xytext=(5, 4),
            textcoords="offset points",
            fontsize=8,
        )
    for where, color in _WHERE.items():
        if any(place.where == where for place in shown):
            axes.plot(
                [], [], "o", color=color, label=f"{where} the front" if " " not in where else where
            )
    axes.plot([], [], "s-", color=COLORS[0], label="sums; the line is their front")
    axes.set(
        xlabel="AP50: what is found and named",
        ylabel="AP75 / AP50: how much of it has a good box",
        title="Classification against localisation, on the test split",
    )
    axes.margins(x=0.16)  # names stand to the right of their places
    axes.grid(True, color="0.9", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=9)
    figure.savefig(path, dpi=110)
    return Path(path)


def _error(sd: float, seeds: int) -> float | None:
    return sd / seeds**0.5 if isfinite(sd) else None


def plot_scales(found: WeightFindings, path: str | Path) -> Path:
    """AP over b, and loc's share of the weighted sum.

    Args:
        found: what to draw.
        path: the picture to write.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5.2), layout="constrained")
    upper, lower = figure.subplots(2, sharex=True, height_ratios=(2, 1))
    ratios = [scale.ratio for scale in found.scales]
    upper.plot(ratios, [scale.mean for scale in found.scales], "-", color=COLORS[0])
    for scale in found.scales:
        scores = list(scale.scores.values())
        upper.plot([scale.ratio] * len(scores), scores, "o", color=COLORS[0], markersize=4)
    low, high = found.level()
    upper.axvspan(low, high, color="0.93", zorder=0)
    upper.set(ylabel="test AP", title="The sum cls + b x loc; grey: not clearly below b = 1")
    upper.set_ylim(0, 1.1 * max(max(scale.scores.values()) for scale in found.scales) or 1)
    lower.plot(ratios, [scale.share for scale in found.scales], "o-", color=COLORS[1])
    lower.axhline(0.5, color="0.6", linewidth=0.8)
    lower.set(ylabel="share of b x loc", xlabel="b", ylim=(-0.03, 1.03), xscale="log")
    for axes in (upper, lower):
        axes.grid(True, color="0.9", linewidth=0.8)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    return Path(path)
