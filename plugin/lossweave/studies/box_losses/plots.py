"""Errors and AP over the share of wrong boxes, and the errors' distributions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lossweave.studies.arms.findings import grouped
from lossweave.studies.arms.plots import draw_lines, finish, legend_below
from lossweave.studies.box_losses.findings import LossFindings, errors_of
from lossweave.studies.ledger.result import Result
from lossweave.studies.report.plots import COLORS, DASHES

__all__ = ["plot_distributions", "plot_errors"]

_SHOWN = ("median error", "90th percentile", "AP50", "AP75")
#: Up to where errors are drawn, in sides of the object.
_LARGEST = 0.4


def plot_errors(found: LossFindings, path: str | Path) -> Path:
    """Four quantities over the share of wrong boxes, a line a loss, a dot a seed.

    Args:
        found: what to draw.
        path: the picture to write.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6.4), layout="constrained")
    panels = figure.subplots(2, 2, sharex=True).flatten()
    for axes, name in zip(panels, _SHOWN, strict=True):
        lines = {
            loss: {100 * share: values for share, values in by_share.items()}
            for loss, by_share in found.values[name].items()
        }
        draw_lines(axes, lines, spread=0.25)
        up = f"{name}, sides" if name.endswith(("error", "tile")) else name
        finish(axes, ylabel=up)
        axes.set_ylim(bottom=0)
    for axes in panels[2:]:
        axes.set_xlabel("training boxes with gross errors, %")
    legend_below(figure, panels, columns=len(found.losses))
    figure.suptitle("Box losses on wrong training boxes; errors in sides of clean test objects")
    figure.savefig(path, dpi=110)
    return Path(path)


def plot_distributions(found: LossFindings, results: Sequence[Result], path: str | Path) -> Path:
    """Which share of all objects has a box with at most such an error: a panel a loss.

    Args:
        found: what chose the losses' weights.
        results: the trainings; the errors of all seeds are drawn as one.
        path: the picture to write.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3 * len(found.losses), 3.6), layout="constrained")
    panels = figure.subplots(1, len(found.losses), sharey=True, squeeze=False)[0]
    groups = grouped(results, "loss", "weight", "share")
    for axes, loss in zip(panels, found.losses, strict=True):
        for rank, share in enumerate(found.shares):
            group = groups.get((loss, found.weights[loss], share), {})
            errors = np.sort(np.concatenate([np.empty(0), *map(errors_of, group.values())]))
            objects = sum(r.details["boxes"]["objects"] for r in group.values()
                          if "boxes" in r.details)  # fmt: skip
            if not objects:
                continue
            axes.plot(
                errors,
                np.arange(1, len(errors) + 1) / objects,
                DASHES[rank % len(DASHES)],
                color=COLORS[rank % len(COLORS)],
                linewidth=1.6,
                label=f"{100 * share:g} % wrong",
            )
        finish(axes, title=loss, xlabel="error, sides", xlim=(0, _LARGEST), ylim=(0, 1))
    panels[0].set_ylabel("objects with at most this error")
    panels[0].legend(fontsize=9, loc="lower right")
    figure.savefig(path, dpi=110)
    return Path(path)
