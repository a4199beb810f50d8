"""A diagnosis in one picture."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from pathlib import Path
from typing import Any

from lossweave.studies.diagnose.findings import Stage
from lossweave.studies.diagnose.record import Record, Table
from lossweave.studies.diagnose.thresholds import CONFLICT
from lossweave.studies.report.plots import COLORS, DASHES

__all__ = ["plot_diagnosis"]


def plot_diagnosis(record: Record, stages: Sequence[Stage], path: str | Path) -> Path:
    """Six panels: values, lengths, cosines over the training; lengths and cosines over the depth of
    the model; shares of the optimizer's step.

    Args:
        record: what was seen.
        stages: what was found in it; the panels over the depth show the last one.
        path: the PNG to write.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 8.6), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, 3)
    at = [look.iteration for look in record.looks]
    places = range(len(record.looks)) if at != sorted(set(at)) else at
    values = [[look.values[k] for look in record.looks] for k in range(len(record.terms))]
    _lines(panels[0][0], places, values, record.terms, "The terms", "raw loss")
    norms = [[_norm(look.shared, k) for look in record.looks] for k in range(len(record.terms))]
    _lines(panels[0][1], places, norms, record.terms,
           "Lengths of the gradients, where terms meet", "length")  # fmt: skip
    _cosines(panels[0][2], places, record)
    _depth(panels[1][0], record, stages[-1])
    _cosines_over_depth(panels[1][1], stages[-1])
    _shares(panels[1][2], stages)
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    return Path(path)


def _norm(table: Table, k: int) -> float:
    return sqrt(table[k][k])


def _plain(panel: Any, title: str, across: str, up: str) -> None:
    panel.set_title(title, fontsize=11, fontweight="bold", loc="left")
    panel.set_xlabel(across)
    panel.set_ylabel(up)
    panel.grid(True, color="0.88", linewidth=0.8)
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)


def _lines(
    panel: Any,
    places: Sequence[int],
    lines: Sequence[Sequence[float]],
    names: Sequence[str],
    title: str,
    up: str,
) -> None:
    """A line a term, on a log axis; where there is nothing the line has a gap."""
    for k, (name, line) in enumerate(zip(names, lines, strict=True)):
        shown = [value if value > 0 else float("nan") for value in line]
        dashes = DASHES[k // len(COLORS) % len(DASHES)]
        panel.plot(places, shown, color=COLORS[k % len(COLORS)], label=name, linewidth=1.8,
                   linestyle=dashes, marker="o", markersize=3)  # fmt: skip
    panel.set_yscale("log")
    _log_ticks(panel.yaxis)
    _plain(panel, title, "iteration", up)


def _log_ticks(axis: Any) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = sorted(axis.get_view_interval())
    range_ = high / low if low > 0 else 1.0
    few = (1.0,) if range_ > 300 else (1.0, 2.0, 5.0)
    axis.set_major_locator(LogLocator(subs=few if range_ > 10 else (1.0, 2.0, 3.0, 4.0, 6.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _cosines(panel: Any, places: Sequence[int], record: Record) -> None:
    count = len(record.terms)
    drawn = 0
    for i in range(count):
        for j in range(i + 1, count):
            line = []
            for look in record.looks:
                scale = _norm(look.shared, i) * _norm(look.shared, j)
                line.append(look.shared[i][j] / scale if scale else float("nan"))
            panel.plot(places, line, linewidth=1.5, marker="o", markersize=3,
                       color=COLORS[drawn % len(COLORS)],
                       linestyle=DASHES[drawn // len(COLORS) % len(DASHES)],
                       label=f"{record.terms[i]}, {record.terms[j]}")  # fmt: skip
            drawn += 1
    panel.axhspan(-1, -CONFLICT, color="#d62728", alpha=0.06)
    panel.axhline(0, color="0.4", linewidth=0.8)
    panel.set_ylim(-1, 1)
    if drawn:
        panel.legend(fontsize=8, loc="lower left", ncols=2)
    _plain(panel, "Cosines, where terms meet (red: conflict)", "iteration", "cosine")


def _depth(panel: Any, record: Record, stage: Stage) -> None:
    parts = list(stage.parts)[::-1]
    for k, _ in enumerate(record.terms):
        found = [(y, stage.parts[part][k]) for y, part in enumerate(parts) if stage.parts[part][k]]
        panel.plot([x for _, x in found], [y for y, _ in found], "o", markersize=7, alpha=0.85,
                   color=COLORS[k % len(COLORS)])  # fmt: skip
    panel.set_xscale("log")
    _log_ticks(panel.xaxis)
    panel.set_yticks(range(len(parts)), parts, fontsize=8)
    _plain(panel, f"Lengths over the depth ({stage.name})", "length", "")


def _cosines_over_depth(panel: Any, stage: Stage) -> None:
    parts = list(stage.parts)[::-1]
    for place, pair in enumerate(stage.pairs):
        found = [(y, pair.parts[part]) for y, part in enumerate(parts) if part in pair.parts]
        panel.plot([x for _, x in found], [y for y, _ in found], "s", markersize=6, alpha=0.85,
                   color=COLORS[place % len(COLORS)])  # fmt: skip
    panel.axvspan(-1, -CONFLICT, color="#d62728", alpha=0.06)
    panel.axvline(0, color="0.4", linewidth=0.8)
    panel.set_xlim(-1, 1)
    panel.set_xticks([-1, -0.5, 0, 0.5, 1])
    panel.set_ylim(-0.6, len(parts) - 0.4)
    panel.set_yticks(range(len(parts)), parts, fontsize=8)
    _plain(panel, f"Mean cosines over the depth ({stage.name})", "cosine", "")


def _shares(panel: Any, stages: Sequence[Stage]) -> None:
    rows = [(f"{stage.name}, {kind}", [getattr(term, kind.lower()) for term in stage.terms])
            for stage in stages for kind in ("SGD", "Adam")][::-1]  # fmt: skip
    for y, (_, found) in enumerate(rows):
        left = 0.0
        for k, share in enumerate(found):
            panel.barh(y, max(share, 0.0), left=left, color=COLORS[k % len(COLORS)], alpha=0.85)
            if share > 0.08:
                panel.text(left + share / 2, y, f"{share:.0%}", ha="center", va="center",
                           fontsize=9, color="white")  # fmt: skip
            left += max(share, 0.0)
    panel.set_yticks(range(len(rows)), [name for name, _ in rows], fontsize=9)
    panel.set_xlim(0, 1.02)
    _plain(panel, "Shares of the optimizer's step", "share", "")
