"""The plane of the two qualities, and that of the two losses."""

from __future__ import annotations

from math import isfinite
from pathlib import Path

from lossweave.studies.arms.plots import finish
from lossweave.studies.report.plots import COLORS
from lossweave.studies.weights.findings import SIDES, WeightFindings

__all__ = ["plot_front", "plot_trade"]

_COLORS = {"inside": COLORS[1], "on": COLORS[3], "beyond": COLORS[2], "not told": "0.5"}


def plot_front(found: WeightFindings, path: str | Path) -> Path:
    """Classification against localisation: the sums as a line, every other method a dot.

    Places have numbers, whose names stand beside the picture, from what finds most on.

    Args:
        found: what to draw; methods that find nothing are left out.
        path: the picture to write.
    """
    from matplotlib.figure import Figure

    shown = [place for place in found.places if isfinite(place.exact)]
    figure = Figure(figsize=(10, max(5.6, 1.5 + 0.21 * len(shown))), layout="constrained")
    axes, names = figure.subplots(1, 2, width_ratios=(2.6, 1))
    front = sorted((p for p in shown if p.on_front), key=lambda place: place.found)
    axes.plot([p.found for p in front], [p.exact for p in front], "-", color=COLORS[0],
              linewidth=1.4)  # fmt: skip
    for rank, place in enumerate(shown, 1):
        color = _COLORS.get(place.where, COLORS[0])
        axes.errorbar(
            place.found,
            place.exact,
            xerr=_error(found.sd_found, place.seeds),
            yerr=_error(found.sd_exact, place.seeds),
            fmt="o" if place.where else "s",
            color=color,
            ecolor="0.85",
            elinewidth=1,
            markersize=6,
            markerfacecolor=color if place.where or place.on_front else "white",
        )
        axes.annotate(f"{rank}", (place.found, place.exact), xytext=(5, 4), fontsize=8,
                      textcoords="offset points")  # fmt: skip
        named = f"{rank}  {place.method.replace(' boundary=features', '')}"
        names.text(0, 1 - rank / (len(shown) + 1), named, color=color, fontsize=9, va="center")
    names.axis("off")
    for where, color in _COLORS.items():
        if any(place.where == where for place in shown):
            said = SIDES[where].replace(" it", " the front")
            axes.plot([], [], "o", color=color, label=said)
    axes.plot([], [], "s-", color=COLORS[0], label="sums; the line is their front")
    if any(not place.where and not place.on_front for place in shown):
        axes.plot([], [], "s", color=COLORS[0], markerfacecolor="white", label="other sums")
    finish(
        axes,
        xlabel="AP50: what is found and named",
        ylabel="AP75 / AP50: how much of it has a good box",
        title="Classification against localisation, on the test split; bars are standard errors",
    )
    axes.title.set_fontsize(10)
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
    right.set_ylim(0, 1.08 * max(max(w.scores.values()) for w in found.weightings))
    for axis in (left.xaxis, left.yaxis):
        axis.set_major_formatter(StrMethodFormatter("{x:.3g}"))
        axis.set_minor_formatter(StrMethodFormatter("{x:.3g}"))
    left.tick_params(axis="both", which="both", labelsize=8)
    figure.savefig(path, dpi=110)
    return Path(path)
