"""The L-curve, AP over lambda, and what becomes of the weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lossweave.studies.arms.plots import draw_lines, finish
from lossweave.studies.regularisation.findings import SPARSE, Curve, RegularisationFindings
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
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    figure.suptitle("L-curves: what is fitted less for smaller weights; numbers are lambda")
    figure.savefig(path, dpi=110)
    return Path(path)


def _l_curve(axes: Any, curve: Curve) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    xs = [_mean(p.size) for p in curve.points]
    ys = [_mean(p.data) for p in curve.points]
    axes.plot(xs, ys, "-", color=COLORS[0], linewidth=1.4)
    for point, x, y in zip(curve.points, xs, ys, strict=True):
        axes.plot(point.size, point.data, ".", color="0.6", markersize=5)
        axes.plot(x, y, "o", color=COLORS[0], markersize=4)
        below = point.strength == 0  # beside the weakest one, which is near
        axes.annotate(f"{point.strength:g}", (x, y), xytext=(5, -12 if below else 5),
                      textcoords="offset points", fontsize=8)  # fmt: skip
    strengths = [p.strength for p in curve.points]
    if curve.corner is not None:
        k = strengths.index(curve.corner)
        axes.plot(xs[k], ys[k], "s", color=COLORS[1], markersize=12, markerfacecolor="none",
                  markeredgewidth=1.8, label="corner")  # fmt: skip
    k = strengths.index(curve.best)
    axes.plot(xs[k], ys[k], "*", color=COLORS[2], markersize=13, label="best AP on validation",
              zorder=5)  # fmt: skip
    finish(axes, title=_NAMES[curve.kind], xlabel=f"{_SIZES[curve.kind]} at the end",
           xscale="log", yscale="log")  # fmt: skip
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 1.5, 2.0, 3.0, 5.0, 7.0)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(0.12)


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
            axes.axhline(_mean(none.ap), color="0.5", linewidth=1, label="without any")
        if curve.corner:
            axes.axvline(curve.corner, color=COLORS[1], linestyle="--", label="corner")
        finish(axes, title=_NAMES[curve.kind], xlabel="lambda", xscale="log")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_ylim(bottom=0)
        axes.legend(fontsize=9, loc="lower left")
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
        norms = [_mean(p.norm) for p in curve.points]
        left.plot(norms, [100 * _mean(p.sparse) for p in curve.points], "o-", **style)
        right.plot(norms, [_mean(p.ap) for p in curve.points], "o-", **style)
    for axes, up in ((left, f"|w| {SPARSE}, % of the weights"), (right, "test AP")):
        finish(axes, xlabel="sum w² / 2 at the end", ylabel=up, xscale="log")
        axes.set_ylim(bottom=0)
    left.legend(fontsize=9)
    figure.suptitle("What makes weights small, and what makes them zero")
    figure.savefig(path, dpi=110)
    return Path(path)


def _mean(values: tuple[float, ...]) -> float:
    return sum(values) / len(values) if values else float("nan")
