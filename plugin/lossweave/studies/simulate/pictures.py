"""The pictures: sum, square and product beside each other, and walls of all combiners."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lossweave.studies.report.plots import COLORS
from lossweave.studies.simulate.problems import Problem

__all__ = ["FIRST", "share", "write_pictures"]

#: What the first picture shows, of what there is; else the first three.
FIRST = ("Sum", "SquaredSum", "Product")
_RESULTS = {"reached": "o", "exploded": "X", "stalled": "s", "moving": ">"}
_COLUMNS = 6
#: The first loss alone, both, the second alone.
_PART = ("#b35806", "#fdb863", "#f7f7f7", "#b2abd2", "#6f4ba0")


def share(first: float | None, second: float | None, one: float, other: float) -> float:
    """The second loss's part in the gradient, from 0 to 1: |w2| L2 / (|w1| L1 + |w2| L2).

    Args:
        first: the first loss's weight.
        second: the second's.
        one: value of the first loss.
        other: of the second.

    Example:
        >>> share(1.0, 1.0, 1.0, 3.0)
        0.75
    """
    a, b = abs(first or 0.0) * one, abs(second or 0.0) * other
    return b / (a + b) if a + b > 0 else 0.5


def write_pictures(
    combiners: Sequence[Mapping[str, Any]],
    problems: Sequence[Problem],
    scales: Sequence[float],
    out: Path,
) -> None:
    """Write ``simulate.png``, ``fields.png`` and ``paths.png``.

    Args:
        combiners: what was found of each, with fields and paths.
        problems: on which it trained.
        scales: that the trainings had.
        out: the folder.
    """
    names = [one["name"] for one in combiners]
    chosen = FIRST if set(FIRST) <= set(names) else names[: len(FIRST)]
    by_name = {one["name"]: one for one in combiners}
    out.mkdir(parents=True, exist_ok=True)
    _first([by_name[name] for name in chosen], problems[0], scales, out / "simulate.png")
    _wall(combiners, out / "fields.png")
    _ways(combiners, problems[0], scales, out / "paths.png")


def _figure(width: float, height: float) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _first(
    chosen: Sequence[Mapping[str, Any]], losses: Problem, scales: Sequence[float], path: Path
) -> None:
    figure = _figure(13.5, 3.4 * len(chosen) + 0.9)
    rows = figure.subplots(len(chosen), 4, squeeze=False)
    images: list[Any] = [None, None]
    for one, row in zip(chosen, rows, strict=True):
        images[0] = _part(one, row[0])
        images[1] = _weight(one, row[1])
        for panel, optimizer in zip(row[2:], ("descent", "Adam"), strict=True):
            _trajectories(panel, one, losses, optimizer, scales, marker=6)
        row[0].set_ylabel(f"{one['name']}\n\nsecond loss", fontsize=11)
        row[0].yaxis.label.set_fontweight("bold")
    for panel, title in zip(rows[0], (
        "the second loss's part in the gradient", "weight of the first loss",
        "gradient descent on the toy", "Adam on the toy"), strict=True):  # fmt: skip
        panel.set_title(title, fontsize=11)
    for panel in rows[-1][:2]:
        panel.set_xlabel("first loss")
    for panel in rows[-1][2:]:
        panel.set_xlabel("shared parameter x")
    for row in rows:
        row[2].set_ylabel("y")
    _part_bar(figure, images[0], rows[:, 0], shrink=0.8)
    bar = figure.colorbar(images[1], ax=rows[:, 1], location="bottom", shrink=0.8, aspect=30)
    bar.set_ticks([-4, -2, 0, 2, 4], labels=["$10^{-4}$", "0.01", "1", "100", "$10^4$"])
    _legend(figure, scales)
    figure.savefig(path, dpi=100)


def _wall(combiners: Sequence[Mapping[str, Any]], path: Path) -> None:
    lines = math.ceil(len(combiners) / _COLUMNS)
    figure = _figure(2.3 * _COLUMNS, 2.4 * lines + 1.2)
    panels = figure.subplots(lines, _COLUMNS, squeeze=False).flatten()
    image = None
    for one, panel in zip(combiners, panels, strict=False):
        image = _part(one, panel)
        star = " *" if one["field"]["moves"] else ""
        panel.set_title(one["name"] + star, fontsize=10, fontweight="bold")
    _tidy(panels, len(combiners), "first loss", "second loss")
    figure.suptitle(
        "The second loss's part in the gradient, over the plane of the two losses\n"
        "(lines: log10 of the step's size;  * weights that move, after "
        f"{max(one['field']['updates'] for one in combiners)} updates)", fontsize=12,
    )  # fmt: skip
    _part_bar(figure, image, list(panels), shrink=0.4)
    figure.savefig(path, dpi=90)


def _ways(
    combiners: Sequence[Mapping[str, Any]], losses: Problem, scales: Sequence[float], path: Path
) -> None:
    lines = math.ceil(len(combiners) / _COLUMNS)
    figure = _figure(2.3 * _COLUMNS, 2.4 * lines + 1.4)
    panels = figure.subplots(lines, _COLUMNS, squeeze=False).flatten()
    for one, panel in zip(combiners, panels, strict=False):
        _trajectories(panel, one, losses, "Adam", scales, marker=4)
        panel.set_title(one["name"], fontsize=10, fontweight="bold")
    _tidy(panels, len(combiners), "x", "y")
    figure.suptitle(f"Adam on the {losses.title}", fontsize=12)
    _legend(figure, scales)
    figure.savefig(path, dpi=90)


def _part_bar(figure: Any, image: Any, panels: Any, shrink: float) -> None:
    bar = figure.colorbar(image, ax=panels, location="bottom", shrink=shrink, aspect=30, pad=0.02)
    bar.set_ticks([0, 0.25, 0.5, 0.75, 1], labels=["first\nalone", "1/4", "even", "3/4",
                                                  "second\nalone"])  # fmt: skip


def _tidy(panels: Sequence[Any], count: int, across: str, up: str) -> None:
    for place, panel in enumerate(panels):
        panel.set_visible(place < count)
        if place % _COLUMNS:
            panel.set_yticklabels([])
        else:
            panel.set_ylabel(up, fontsize=9)
        if place + _COLUMNS < count:
            panel.set_xticklabels([])
        else:
            panel.set_xlabel(across, fontsize=9)
        panel.tick_params(labelsize=8)


def _grid(one: Mapping[str, Any]) -> tuple[list[float], list[list[float]]]:
    plane = one["field"]
    values = [10.0**exponent for exponent in plane["exponents"]]
    parts = [
        [
            share(plane["first"][i][j], plane["second"][i][j], values[j], values[i])
            for j in range(len(values))
        ]
        for i in range(len(values))
    ]
    return values, parts


def _part(one: Mapping[str, Any], panel: Any) -> Any:
    values, parts = _grid(one)
    from matplotlib.colors import LinearSegmentedColormap

    colors = LinearSegmentedColormap.from_list("part", _PART)
    edges = _axes(panel, values)
    image = panel.pcolormesh(edges, edges, parts, cmap=colors, vmin=0, vmax=1)
    size = one["field"]["size"]
    heights = [[_log(value) for value in row] for row in size]
    flat = [height for row in heights for height in row]
    if max(flat) - min(flat) > 0.1:
        levels = range(math.floor(min(flat)), math.ceil(max(flat)) + 1)
        few = list(levels)[:: max(1, len(levels) // 6)]
        lines = panel.contour(values, values, heights, levels=few, colors="0.15", linewidths=0.7)
        panel.clabel(lines, fontsize=7, fmt="%g")
    return image


def _weight(one: Mapping[str, Any], panel: Any) -> Any:
    values, _ = _grid(one)
    heights = [[_log(value) for value in row] for row in one["field"]["first"]]
    edges = _axes(panel, values)
    return panel.pcolormesh(edges, edges, heights, cmap="RdBu_r", vmin=-4, vmax=4)


def _log(value: float | None) -> float:
    return math.log10(min(max(abs(value or 0.0), 1e-12), 1e12))


def _axes(panel: Any, values: Sequence[float]) -> list[float]:
    """Log axes for the plane; returns the edges of the cells around its values."""
    from matplotlib.ticker import FixedLocator, NullLocator

    half = math.sqrt(values[1] / values[0])
    edges = [values[0] / half, *(value * half for value in values)]

    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.set(xlim=(edges[0], edges[-1]), ylim=(edges[0], edges[-1]))
    for axis in (panel.xaxis, panel.yaxis):
        axis.set_major_locator(FixedLocator([1e-3, 1, 1e3]))
        axis.set_minor_locator(NullLocator())
    panel.set_box_aspect(1)
    return edges


def _trajectories(
    panel: Any,
    one: Mapping[str, Any],
    losses: Problem,
    optimizer: str,
    scales: Sequence[float],
    marker: float,
) -> None:
    left, right, bottom, top = losses.box
    front = losses.front.points
    panel.plot(front[:, 0], front[:, 1], color="0.6", linewidth=5, solid_capstyle="round", zorder=1)
    for way in one["paths"]:
        if way["problem"] != losses.name or way["optimizer"] != optimizer:
            continue
        color = COLORS[list(scales).index(way["scale"]) % len(COLORS)]
        points = [(x, y) for x, y in zip(way["x"], way["y"], strict=True)
                  if x is not None and y is not None]  # fmt: skip
        wide = 1.2 + 0.9 * (len(scales) - 1 - list(scales).index(way["scale"]))  # all can be seen
        panel.plot(*zip(*points, strict=True), color=color, linewidth=min(wide, 4), zorder=2)
        panel.plot(*points[0], marker="o", color="white", markeredgecolor="black", markersize=4)
        panel.plot(
            *(min(max(v, low), high) for v, low, high in
              zip(points[-1], (left, bottom), (right, top), strict=True)),
            marker=_RESULTS[way["result"]], color=color, markersize=marker, zorder=3,
            markeredgecolor="black", markeredgewidth=0.5, clip_on=False,
        )  # fmt: skip
    panel.set(xlim=(left, right), ylim=(bottom, top))
    panel.set_box_aspect(1)


def _legend(figure: Any, scales: Sequence[float]) -> None:
    from matplotlib.lines import Line2D

    lines = [
        Line2D([], [], color=COLORS[place % len(COLORS)], label=f"ratio {scale:g}")
        for place, scale in enumerate(scales)
    ]
    lines.append(Line2D([], [], color="0.6", linewidth=5, label="Pareto set"))
    lines.append(
        Line2D([], [], marker="o", linestyle="", color="white", markeredgecolor="black",
               label="start"))  # fmt: skip
    words = {"moving": "still moving"}
    lines += [
        Line2D([], [], marker=marker, linestyle="", color="0.5", markeredgecolor="black",
               label=words.get(result, result))
        for result, marker in _RESULTS.items()
    ]  # fmt: skip
    figure.legend(handles=lines, loc="outside lower center", ncols=min(len(lines), 9), fontsize=9)
