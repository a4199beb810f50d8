"""Lines over an axis: the mean of the seeds, with a dot a seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lossweave.studies.report.plots import COLORS, DASHES

__all__ = ["draw_lines", "finish", "legend_below"]


def draw_lines(
    axes: Any, lines: Mapping[str, Mapping[float, Sequence[float]]], spread: float = 0.0
) -> None:
    """Draw a line per name over an axis, each in a colour of its own.

    Args:
        axes: of matplotlib.
        lines: by name and place, a number per seed.
        spread: how far lines are set apart along the axis, so that their dots do not hide each
            other; on an axis that is no logarithm.
    """
    for rank, (name, points) in enumerate(lines.items()):
        color = COLORS[rank % len(COLORS)]
        shift = spread * (rank - (len(lines) - 1) / 2)
        where = [x + shift for x in points]
        means = [sum(values) / len(values) for values in points.values()]
        dashes = DASHES[rank // len(COLORS) % len(DASHES)]
        axes.plot(where, means, dashes, color=color, linewidth=1.8, label=name)
        for x, values in zip(where, points.values(), strict=True):
            axes.plot([x] * len(values), values, "o", color=color, markersize=3.5, alpha=0.8)


def finish(axes: Any, **settings: Any) -> None:
    """A light grid, no frame above and to the right, and the axes' settings."""
    axes.grid(True, color="0.9", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set(**settings)


def legend_below(figure: Any, panels: Sequence[Any], columns: int) -> None:
    """One legend below a figure, of whatever any of its panels has a label for."""
    by_label = {
        label: handle
        for axes in panels
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    if by_label:
        figure.legend(by_label.values(), by_label, loc="outside lower center", ncols=columns)
