"""The L-curve, AP over lambda, and what becomes of the weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lossweave.studies.arms.plots import draw_lines, finish, legend_below
from lossweave.studies.regularisation.findings import (
    SPARSE,
    Curve,
    RegularisationFindings,
    mean_of,
)
from lossweave.studies.report.plots import COLORS

__all__ = ["plot_l_curves", "plot_strengths", "plot_weights"]

_SIZES = {"l1": "sum |w|", "l2": "sum w² / 2", "decay": "sum w² / 2"}
_NAMES = {"l1": "l1 penalty", "l2": "l2 penalty", "decay": "AdamW's decay"}


def plot_l_curves(found: RegularisationFindings, path: str | Path) -> Path:
    """The data's loss against the size of the weights, a panel a kind, with corner and best AP.

    Args:
        found: what to draw.
        path: the picture to write.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.3 * len(found.curves), 4.4), layout="constrained")
    panels = figure.subplots(1, len(found.curves), sharey=True, squeeze=False)[0]
    for axes, curve in zip(panels, found.curves.values(), strict=True):
        _l_curve(axes, curve)
    panels[0].set_ylabel("the data's loss at the end")
    legend_below(figure, panels, columns=3)
    figure.suptitle("L-curves: what is fitted less for smaller weights; numbers are lambda")
    figure.savefig(path, dpi=110)
    return Path(path)


def _l_curve(axes: Any, curve: Curve) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    xs = [mean_of(p.size) for p in curve.points]
    ys = [mean_of(p.data) for p in curve.points]
    strengths = [p.strength for p in curve.points]
    axes.plot(xs, ys, "o-", color=COLORS[0], linewidth=1.4, markersize=4)
    for point in curve.points:
        axes.plot(point.size, point.data, ".", color="0.6", markersize=5, zorder=1)
    best = strengths.index(curve.best)
    if curve.corner is not None:
        k = strengths.index(curve.corner)
        axes.plot(xs[k], ys[k], "s", color=COLORS[1], markersize=12, markerfacecolor="none",
                  markeredgewidth=1.8, label="corner")  # fmt: skip
    axes.plot(xs[best], ys[best], "*", color=COLORS[2], markersize=13,
              label="best AP on validation", zorder=5)  # fmt: skip
    finish(axes, title=_NAMES[curve.kind], xlabel=f"{_SIZES[curve.kind]} at the end",
           xscale="log", yscale="log")  # fmt: skip
    for axis, values in ((axes.xaxis, xs), (axes.yaxis, ys)):
        if max(values) < 30 * min(values):  # powers of ten alone would label next to nothing
            wide = max(values) > 3 * min(values)
            axis.set_major_locator(LogLocator(subs=(1, 2, 5) if wide else (1, 1.5, 2, 3, 5, 7)))
            axis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.set_minor_formatter(NullFormatter())
    axes.margins(0.12)
    _name_points(axes, curve, xs, ys)


def _name_points(axes: Any, curve: Curve, xs: list[float], ys: list[float]) -> None:
    """Write lambda beside the points, the strongest first, and not where it would hide another."""
    taken: list[tuple[float, float]] = []
    for point, x, y in reversed(list(zip(curve.points, xs, ys, strict=True))):
        place = axes.transAxes.inverted().transform(axes.transData.transform((x, y)))
        if all(abs(place[0] - a) > 0.16 or abs(place[1] - b) > 0.06 for a, b in taken):
            taken.append((place[0], place[1]))
            axes.annotate(f"{point.strength:g}", (x, y), xytext=(5, 5),
                          textcoords="offset points", fontsize=8)  # fmt: skip


def plot_strengths(found: RegularisationFindings, path: str | Path) -> Path:
    """Test AP over lambda, a panel a kind, with the corner and what none at all reaches.

    Args:
        found: what to draw.
        path: the picture to write.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter

    figure = Figure(figsize=(4.3 * len(found.curves), 3.9), layout="constrained")
    panels = figure.subplots(1, len(found.curves), sharey=True, squeeze=False)[0]
    for axes, curve in zip(panels, found.curves.values(), strict=True):
        draw_lines(axes, {"": {p.strength: p.ap for p in curve.points if p.strength}})
        none = next((p for p in curve.points if not p.strength), None)
        if none is not None:
            axes.axhline(mean_of(none.ap), color="0.5", linewidth=1, label="without any")
        if curve.corner:
            axes.axvline(curve.corner, color=COLORS[1], linestyle="--", label="corner")
        finish(axes, title=_NAMES[curve.kind], xlabel="lambda", xscale="log")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.legend(fontsize=9, loc="lower left")
    panels[0].set_ylim(bottom=0)  # shared; after all is drawn, since it ends the scaling
    panels[0].set_ylabel("test AP")
    figure.savefig(path, dpi=110)
    return Path(path)


def plot_weights(found: RegularisationFindings, path: str | Path) -> Path:
    """The share of weights near zero and the weights' norm, against what AP is left.

    Args:
        found: what to draw.
        path: the picture to write.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for rank, curve in enumerate(found.curves.values()):
        style = dict(color=COLORS[rank], label=_NAMES[curve.kind], markersize=4, linewidth=1.4)
        norms = [mean_of(p.norm) for p in curve.points]
        left.plot(norms, [100 * mean_of(p.sparse) for p in curve.points], "o-", **style)
        right.plot(norms, [mean_of(p.ap) for p in curve.points], "o-", **style)
    for axes, up in ((left, f"|w| {SPARSE}, % of the weights"), (right, "test AP")):
        finish(axes, xlabel="sum w² / 2 at the end", ylabel=up, xscale="log")
        axes.set_ylim(bottom=0)
    left.legend(fontsize=9)
    figure.suptitle("What makes weights small, and what makes them zero")
    figure.savefig(path, dpi=110)
    return Path(path)
