"""Figures: terms and weights over time, all methods in one; scores by seed; plain lines."""

from collections.abc import Mapping, Sequence
from math import ceil, isfinite
from pathlib import Path
from typing import Any, Literal

from lossweave.studies.report.many import Many
from lossweave.studies.runs.method import Score
from lossweave.studies.runs.record import RunRecord, Series

__all__ = ["COLORS", "DASHES", "plot_differences", "plot_history", "plot_lines", "plot_scores"]

#: Okabe and Ito's palette, told apart with any kind of colour vision.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", "--", "-.", ":")

_TITLES = {"value": "The terms over time", "weight": "The weights over time"}
_AXES = {"value": "raw loss", "weight": "weight in the gradient"}


def plot_history(
    runs: Sequence[RunRecord],
    quantity: Literal["value", "weight"],
    path: str | Path,
    title: str | None = None,
) -> Path:
    """Plot every term's value, or weight, over the iterations: a panel a term, a line a run.

    Args:
        runs: trainings to compare; terms are those of the first.
        quantity: 'value' for the terms (log axis), 'weight' for their weights.
        path: the PNG to write.
        title: None means a standing title.

    Returns:
        The path.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    terms = list(runs[0].terms)
    columns = min(len(terms), 2)
    rows = ceil(len(terms) / columns)
    figure = Figure(figsize=(4.6 * columns, 0.9 + 3.1 * rows), layout="constrained")
    FigureCanvasAgg(figure)  # no display and no global state: safe inside a training
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True).flatten()
    for panel, term in zip(panels, terms, strict=False):
        found = [
            (run.combiner, getattr(run.terms[term], quantity)) for run in runs if term in run.terms
        ]
        _draw(panel, found, quantity)
        panel.set_title(term, fontsize=12, fontweight="bold", loc="left")
    for panel in panels[len(terms) :]:
        panel.set_visible(False)
    for place, panel in enumerate(panels[: len(terms)]):
        if place % columns == 0:
            panel.set_ylabel(_AXES[quantity])
        if place + columns >= len(terms):
            panel.set_xlabel("iteration")
            panel.tick_params(labelbottom=True)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.suptitle(title or _TITLES[quantity], fontsize=13)
    # As many columns as long names leave room for.
    columns = max(1, min(len(labels), 4, 110 // (8 + max(map(len, labels), default=0))))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    return Path(path)


def _draw(panel: Any, found: Sequence[tuple[str, Series]], quantity: str) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

    everything = [value for _, series in found for value in series.values]
    positive = [value for value in everything if value > 0]
    wide = bool(positive) and len(positive) == len(everything)
    if quantity == "weight":  # a constant weight reads best on a plain axis from 0
        wide = wide and max(positive) > 20 * min(positive)
    for place, (name, series) in enumerate(found):
        color = COLORS[place % len(COLORS)]
        dashes = DASHES[place // len(COLORS) % len(DASHES)]
        few = len(series.steps) < 30
        panel.plot(
            series.steps,
            series.values,
            color=color,
            linestyle=dashes,
            linewidth=1.8,
            label=name,
            marker="o" if few else None,
            markersize=3,
        )
    _label_ends(panel, found, log=wide)
    panel.grid(True, which="major", color="0.88", linewidth=0.8)
    panel.spines[["top", "right"]].set_visible(False)
    if wide:
        panel.set_yscale("log")
        # Losses often stay within one decade, where powers of ten alone would label nothing.
        panel.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 3.0, 5.0)))
        panel.yaxis.set_major_formatter(ScalarFormatter())
        panel.yaxis.set_minor_formatter(NullFormatter())
    elif quantity == "weight" and everything:
        panel.set_ylim(min(0.0, 1.1 * min(everything)), 1.1 * max(*everything, 0.1))


def _label_ends(panel: Any, found: Sequence[tuple[str, Series]], log: bool) -> None:
    """Write the final values beside the lines' ends, apart where they lie close together."""
    ends = [
        (series.last, COLORS[place % len(COLORS)], series.steps[-1])
        for place, (_, series) in enumerate(found)
        if series.values
    ]
    ends.sort(key=lambda end: end[0])
    for rank, (value, color, step) in enumerate(ends):
        below = rank == 0 and len(ends) > 1
        panel.annotate(
            f"{value:.3g}",
            (step, value),
            xytext=(5, -7 if below else 3),
            textcoords="offset points",
            color=color,
            fontsize=9,
            fontweight="bold",
            annotation_clip=False,
        )


def plot_scores(scores: Sequence[Score], tuned: str, path: str | Path, mark: str = "tuned") -> Path:
    """AP on the test split: a dot per seed, a line at the mean, methods from best to worst.

    Args:
        scores: the finished trainings; where they have learning rates, one per method.
        tuned: the label of the tuned sum, or of another reference, which is marked.
        path: the picture to write.
        mark: what is written beside that label.
    """
    by_method: dict[str, list[float]] = {}
    for score in scores:
        by_method.setdefault(score.method, []).append(score.test)
    order = sorted(by_method, key=lambda label: sum(by_method[label]) / len(by_method[label]))
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 0.42 * len(order) + 1.4), layout="constrained")
    axes = figure.subplots()
    for row, label in enumerate(order):
        values = by_method[label]
        colour = COLORS[1] if label == tuned else COLORS[0]
        axes.plot(values, [row] * len(values), "o", color=colour, alpha=0.7, markersize=6)
        mean = sum(values) / len(values)
        axes.plot([mean, mean], [row - 0.3, row + 0.3], color=colour, linewidth=2.5)
        if label == tuned:
            axes.axvline(mean, color=colour, linewidth=0.8, linestyle=":")
    rates = {score.method: score.rate for score in scores if score.rate is not None}
    names = [
        f"{label}{f', lr {rates[label]:g}' if label in rates else ''}"
        f"{f' ({mark})' if label == tuned else ''}"
        for label in order
    ]
    axes.set_yticks(range(len(order)), names, fontsize=9)
    axes.set_xlabel("AP on the test split")
    axes.grid(axis="x", color="#dddddd")
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="y", length=0)
    figure.savefig(path, dpi=120)
    return Path(path)


def plot_differences(
    differences: Mapping[str, Sequence[float]], many: Many, tuned: str, path: str | Path
) -> Path:
    """Paired differences to the tuned sum: the mean with its pooled interval, a dot per seed.

    What stands out after the correction for the number of methods is filled; the grey band is
    what a method with the median number of seeds may well have without being seen.

    Args:
        differences: by method, one per seed.
        many: what they say together.
        tuned: the tuned sum's label.
        path: the picture to write.
    """
    from matplotlib.figure import Figure

    shown = {method: list(found) for method, found in differences.items() if found}
    order = sorted(shown, key=lambda method: sum(shown[method]) / len(shown[method]))
    figure = Figure(figsize=(8, 0.3 * len(order) + 1.6), layout="constrained")
    axes = figure.subplots()
    if isfinite(many.smallest):
        axes.axvspan(-many.smallest, many.smallest, color="0.92", zorder=0)
    axes.axvline(0, color="0.4", linewidth=1)
    for row, method in enumerate(order):
        mean, half = sum(shown[method]) / len(shown[method]), many.half_widths[method]
        seen = many.p[method] < 0.05
        color = COLORS[0] if not seen else COLORS[2] if mean > 0 else COLORS[1]
        if isfinite(half):
            axes.plot([mean - half, mean + half], [row, row], color=color, linewidth=1.6)
        axes.plot(shown[method], [row] * len(shown[method]), ".", color="0.55", markersize=4)
        axes.plot(
            mean, row, "o", color=color, markersize=6, markerfacecolor=color if seen else "white"
        )
    axes.set_yticks(range(len(order)), order, fontsize=9)
    axes.set(xlabel=f"test AP minus that of {tuned}", ylim=(-0.7, len(order) - 0.3))
    figure.suptitle("Differences to the tuned sum; filled: beyond Holm's correction", fontsize=11)
    axes.grid(True, axis="x", color="0.88", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    return Path(path)


def plot_lines(
    lines: Mapping[str, Mapping[int, float]], path: str | Path, title: str, across: str, up: str
) -> Path:
    """Plot a line per name.

    Args:
        lines: by name, values by place on the horizontal axis.
        path: the PNG to write.
        title: above it.
        across: what the horizontal axis shows.
        up: what the vertical axis shows.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.2), layout="constrained")
    axes = figure.subplots()
    for place, (name, points) in enumerate(lines.items()):
        dashes = DASHES[place // len(COLORS) % len(DASHES)]
        axes.plot(
            list(points),
            list(points.values()),
            color=COLORS[place % len(COLORS)],
            linestyle=dashes,
            linewidth=1.8,
            label=name,
        )
    axes.set(title=title, xlabel=across, ylabel=up)
    axes.set_ylim(bottom=0)
    axes.grid(True, color="0.88", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    if lines:
        figure.legend(loc="outside lower center", ncols=2, fontsize=9)
    figure.savefig(path, dpi=110)
    return Path(path)
