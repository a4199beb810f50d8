"""The plane of the two qualities, and that of the two losses."""

from __future__ import annotations

from math import isfinite
from pathlib import Path

from lossweave.studies.arms.plots import finish
from lossweave.studies.report.plots import COLORS
from lossweave.studies.weights.findings import WeightFindings

__all__ = ["plot_front", "plot_trade"]

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


def plot_trade(found: WeightFindings, path: str | Path) -> Path:
    """The classification loss against the localisation loss over alpha, and AP over alpha.

    Args:
        found: what to draw.
        path: the picture to write.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import StrMethodFormatter

    figure = Figure(figsize=(9, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot([w.loc for w in found.weightings], [w.cls for w in found.weightings], "o-",
              color=COLORS[0], markersize=4, linewidth=1.4)  # fmt: skip
    for weighting in found.weightings:
        left.annotate(f"{weighting.alpha:.3g}", (weighting.loc, weighting.cls), xytext=(5, 5),
                      textcoords="offset points", fontsize=8)  # fmt: skip
        scores = list(weighting.scores.values())
        right.plot([weighting.alpha] * len(scores), scores, "o", color=COLORS[0], markersize=4)
    right.plot([w.alpha for w in found.weightings], [w.mean for w in found.weightings], "-",
               color=COLORS[0])  # fmt: skip
    corner = next((w for w in found.weightings if w.ratio == found.corner), None)
    if corner is not None:
        left.plot(corner.loc, corner.cls, "s", color=COLORS[1], markersize=12,
                  markerfacecolor="none", markeredgewidth=1.8, label="corner")  # fmt: skip
        right.axvline(corner.alpha, color=COLORS[1], linestyle="--", label="corner")
        left.legend(fontsize=9)
    finish(left, title="Numbers are alpha", xlabel="loc at the end", ylabel="cls at the end",
           xscale="log", yscale="log")  # fmt: skip
    left.margins(0.12)
    finish(right, title="alpha cls + (1 - alpha) loc", xlabel="alpha", ylabel="test AP",
           xlim=(0, 1))  # fmt: skip
    right.set_ylim(bottom=0)
    for axis in (left.xaxis, left.yaxis):
        axis.set_major_formatter(StrMethodFormatter("{x:.3g}"))
        axis.set_minor_formatter(StrMethodFormatter("{x:.3g}"))
    left.tick_params(axis="both", which="both", labelsize=8)
    figure.savefig(path, dpi=110)
    return Path(path)
