"""The terms of many short trainings in one picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lossweave.studies.report.plots import COLORS, DASHES

__all__ = ["plot_short_runs"]


def plot_short_runs(
    curves: Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]], path: str | Path
) -> Path:
    """Every term over the iterations, smoothed: a row a detector, a column a term, a line a run.

    Args:
        curves: by detector, combiner and term, every iteration's raw value.
        path: the picture to write.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    terms = list(dict.fromkeys(t for runs in curves.values() for run in runs.values() for t in run))
    names = list(dict.fromkeys(name for runs in curves.values() for name in runs))
    figure = Figure(figsize=(5.0 * len(terms), 0.9 + 2.8 * len(curves)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(curves), len(terms), squeeze=False)
    lines: dict[str, Any] = {}
    for (detector, runs), row in zip(curves.items(), panels, strict=True):
        for term, panel in zip(terms, row, strict=True):
            for name, run in runs.items():
                if term not in run:
                    continue
                place = names.index(name)
                values = _running_means(run[term], max(1, len(run[term]) // 10))
                (lines[name],) = panel.plot(
                    range(len(run[term]) - len(values) + 1, len(run[term]) + 1),
                    values,
                    color=COLORS[place % len(COLORS)],
                    linestyle=DASHES[place // len(COLORS) % len(DASHES)],
                    linewidth=1.4,
                )
            panel.set_title(f"{detector}: {term}", fontsize=11, fontweight="bold", loc="left")
            panel.set_ylabel("raw loss, running mean")
            panel.set_ylim(bottom=0)
            panel.grid(True, color="0.88", linewidth=0.8)
            panel.spines[["top", "right"]].set_visible(False)
    for panel in panels[-1]:
        panel.set_xlabel("iteration")
    figure.legend(
        list(lines.values()), list(lines), loc="outside lower center", ncols=min(len(lines), 5)
    )
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    return Path(path)


def _running_means(values: Sequence[float], window: int) -> list[float]:
    """Means of every ``window`` values that follow each other."""
    return [sum(values[i : i + window]) / window for i in range(len(values) - window + 1)]
