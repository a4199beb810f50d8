"""Pictures of a search: where it looked and how far, and the front of the two qualities."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from lossweave.studies.report.plots import COLORS
from lossweave.studies.tune.findings import Trained, TuneFindings

__all__ = ["plot_front", "plot_grid", "plot_search"]

_DPI = 110


def plot_search(found: TuneFindings, path: Path) -> Path:
    """Scores over the rungs, a line a point, and where the points lie.

    Args:
        found: the findings of a search.
        path: the PNG to write.
    """
    figure = _figure(9.6, 4.2)
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.15))
    tried = _tried(found)
    chosen = (found.search or {}).get("chosen"), (found.search or {}).get("rate")
    for number, point in enumerate(tried):
        rungs = [0, *sorted(point.rungs)]
        scores = [0.0, *(point.rungs[r][found.metric] for r in rungs[1:])]
        own = number == 0
        best = (point.method, point.rate) == chosen
        colour = COLORS[1] if best else COLORS[0] if own else "0.65"
        left.plot(
            rungs, scores, "-o", color=colour, markersize=4, linewidth=2.2 if best or own else 1.2,
            zorder=3 if best or own else 2,
            label="chosen" if best else "the config's own" if own else None,
        )  # fmt: skip
    left.set(xlabel=found.unit, ylabel=f"validation {found.metric.upper()}", ylim=(0, None))
    left.set_title("Every point, as far as it was trained", fontsize=11, loc="left")
    left.legend(loc="lower right", fontsize=9, frameon=False)
    _plain(left)
    _scatter(figure, right, found, tried)
    figure.savefig(path, dpi=_DPI)
    return path


def _tried(found: TuneFindings) -> list[Trained]:
    order = {
        (one["method"], one["rate"]): one["number"] for one in (found.search or {}).get("tried", ())
    }
    points = [p for p in found.points if (p.method, p.rate) in order]
    return sorted(points, key=lambda p: order[p.method, p.rate])


def _scatter(figure: Any, axes: Any, found: TuneFindings, tried: list[Trained]) -> None:
    """Rate against the first ratio; the score is the colour, the rung the size."""
    across = [p.ratios[0] if p.ratios else 0.0 for p in tried]
    rates = [p.rate for p in tried]
    score = [p.rungs[p.reached][found.metric] for p in tried]
    whole = [p.reached == found.length for p in tried]
    ended = [s for s, w in zip(score, whole, strict=True) if w]
    drawn = axes.scatter(
        [x for x, w in zip(across, whole, strict=True) if w],
        [y for y, w in zip(rates, whole, strict=True) if w],
        c=ended, s=110, cmap="viridis", edgecolors="black", linewidths=0.7, zorder=3,
        label="trained to the end",
    )  # fmt: skip
    stopped = [(x, y) for x, y, w in zip(across, rates, whole, strict=True) if not w]
    if stopped:
        axes.scatter(*zip(*stopped, strict=True), marker="x", color="0.4", s=45, zorder=2,
                     label="stopped at a rung")  # fmt: skip
    for number, (x, y) in enumerate(zip(across, rates, strict=True)):
        axes.annotate(str(number), (x, y), xytext=(7, 4), textcoords="offset points", fontsize=8)
    terms = (found.search or {}).get("terms", ["first", "last"])
    axes.set(xlabel=f"log2 of the weights' ratio, {terms[0]} : {terms[-1]}", yscale="log")
    axes.set_ylabel("learning rate")
    from matplotlib.ticker import NullFormatter

    ticks = sorted({float(f"{rate:.2g}") for rate in rates})
    ticks = ticks if len(ticks) <= 6 else [ticks[0], ticks[len(ticks) // 2], ticks[-1]]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.margins(0.12)
    axes.set_title("Where it looked, in order", fontsize=11, loc="left")
    figure.colorbar(drawn, ax=axes, label=found.metric.upper())
    axes.legend(loc="best", fontsize=8, framealpha=0.8)
    _plain(axes)


def plot_front(found: TuneFindings, path: Path) -> Path:
    """AP75 against AP50 of all trained to the end, their front and its knee.

    Args:
        found: the findings.
        path: the PNG to write.
    """
    figure = _figure(7.2, 4.6)
    axes = figure.subplots()
    whole = [p for p in found.points if p.reached == found.length]
    scores = {p.label: p.rungs[found.length] for p in whole}
    axes.plot([s["ap50"] for s in scores.values()], [s["ap75"] for s in scores.values()], "o",
              color="0.6", markersize=6, label="trained to the end")  # fmt: skip
    on = [scores[label] for label in found.front]
    axes.plot([s["ap50"] for s in on], [s["ap75"] for s in on], "-o", color=COLORS[0],
              linewidth=1.8, markersize=7, label="none is better in both")  # fmt: skip
    named = {found.knee: "knee"} if found.knee else {}
    if found.search and found.search.get("chosen"):
        label = f"{found.search['chosen'].removeprefix('Sum ')}, lr {found.search['rate']:g}"
        named[label] = "knee, chosen" if label in named else "chosen"
    for place, (label, word) in enumerate(named.items(), start=1):
        if label in scores:
            here = scores[label]
            axes.plot(here["ap50"], here["ap75"], "o", color=COLORS[place], markersize=9,
                      label=f"{word}: {label}")  # fmt: skip
    axes.set(xlabel="AP50: classification, mostly", ylabel="AP75: localisation as well")
    if len(whole) > 3:  # what failed altogether would press the rest together
        for name, limit in (("ap50", axes.set_xlim), ("ap75", axes.set_ylim)):
            values = sorted(s[name] for s in scores.values())
            low = values[len(values) // 3]
            room = 0.12 * max(values[-1] - low, 0.01)
            limit(low - room, values[-1] + room)
    figure.legend(loc="outside lower center", ncols=2, fontsize=8.5, frameon=False)
    _plain(axes)
    figure.savefig(path, dpi=_DPI)
    return path


def plot_grid(found: TuneFindings, path: Path) -> Path:
    """The grid as a table of colours, and what searches of it ended with.

    Args:
        found: findings that hold a grid.
        path: the PNG to write.
    """
    grid = found.grid
    if grid is None:
        raise ValueError("there is no grid")
    figure = _figure(10.5, 4.2)
    left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
    ratios = sorted({p.ratios[0] for p in grid.points})
    rates = sorted({p.rate for p in grid.points})
    table = np.full((len(rates), len(ratios)), np.nan)
    for p in grid.points:
        table[rates.index(p.rate), ratios.index(p.ratios[0])] = p.rungs[found.length]["ap"]
    shown = left.imshow(table, origin="lower", aspect="auto", cmap="viridis")
    for row, col in np.ndindex(table.shape):
        value = table[row, col]
        if np.isfinite(value):
            bright = value > 0.6 * np.nanmax(table)
            left.text(col, row, f"{value:.3f}", ha="center", va="center", fontsize=8,
                      color="black" if bright else "white")  # fmt: skip
    left.set_xticks(range(len(ratios)), [f"{r:g}" for r in ratios])
    left.set_yticks(range(len(rates)), [f"{r:g}" for r in rates])
    left.set(xlabel="log2 of the weights' ratio", ylabel="learning rate")
    left.set_title("Validation AP of the grid", fontsize=11, loc="left")
    figure.colorbar(shown, ax=left)
    names = list(dict.fromkeys(row["search"] for row in grid.replays))
    for place, name in enumerate(names):
        behind = [row["behind"] for row in grid.replays if row["search"] == name]
        spread = np.linspace(-0.12, 0.12, len(behind)) if len(behind) > 1 else [0.0]
        right.plot(place + np.asarray(spread), behind, "o", color=COLORS[place % len(COLORS)],
                   markersize=7, alpha=0.8)  # fmt: skip
    right.axhline(0.005, color="0.5", linestyle=":", linewidth=1)
    several = len({row["budget"] for row in grid.replays}) > 1
    short = [_short(name, several) for name in names]
    right.set_xticks(range(len(names)), short, fontsize=8)
    right.set_xlim(-0.6, len(names) - 0.4)
    right.set(
        ylabel="AP behind the grid's best",
        xlabel="sampler, rungs before the end, budget" if several else "",
    )
    right.set_title("Searches of it, a dot a seed", fontsize=11, loc="left")
    _plain(right)
    figure.savefig(path, dpi=_DPI)
    return path


def _short(name: str, several_budgets: bool) -> str:
    """A search in a few lines: its sampler, where it looks, its budget."""
    sampler, rest = name.split(", ", 1)
    where, budget = rest.split(", budget ")
    looks = (
        where if where == "no rungs" else f"at {where.removeprefix('rungs ').rpartition(',')[0]}"
    )
    return f"{sampler}\n{looks}" + (f"\n{budget.split(',')[0]}" if several_budgets else "")


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _plain(axes: Any) -> None:
    axes.grid(True, color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
