"""The stages on a time axis with AP and recall, and the differences in AP."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lossweave.studies.alternating_vs_joint.findings import (
    ALTERNATING,
    EQUAL,
    JOINT,
    RECORD_RATIOS,
    Run,
    pairs,
    step4_of,
)
from lossweave.studies.alternating_vs_joint.lengths import Lengths
from lossweave.studies.report.paired import differences, spread
from lossweave.studies.report.plots import COLORS

__all__ = ["plot_differences", "plot_lengths", "plot_stages"]

_ROWS = {
    ALTERNATING: "alternating",
    JOINT: "joint,\npapers' budget",
    EQUAL: "joint,\nequal compute",
}
_COLOR = {ALTERNATING: COLORS[0], JOINT: COLORS[1], EQUAL: COLORS[2]}
_MARK = {"AP": "o", "AR@100": "^"}


def plot_stages(runs: Sequence[Run], path: str | Path) -> Path:
    """Every way's stages and proposal passes as bars over minutes; below, AP and recall then.

    Bars are means over the seeds, dots are seeds, lines join their means. Evaluations are left
    out of the time.

    Args:
        runs: the trainings.
        path: the PNG to write.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    arms = _by_arm(runs)
    figure = Figure(figsize=(9, 3.6 + 0.75 * len(arms)), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[0.75 * len(arms), 3])
    longest = max(run.record.training_seconds for run in runs) / 60
    for row, (arm, found) in enumerate(arms.items()):
        _draw_bars(above, row, arm, found, longest)
        _draw_metrics(below, arm, found)
    above.set_yticks(range(len(arms)), [_ROWS[arm] for arm in arms], fontsize=9)
    above.set_ylim(len(arms) - 0.5, -0.5)
    above.set_title("The stages over time, and what they reach", fontsize=12, loc="left")
    below.set(xlabel="minutes of training and proposal passes", ylabel="AP, average recall")
    below.set_ylim(0, 1)
    for panel in (above, below):
        panel.grid(axis="x", color="0.9")
        panel.set_axisbelow(True)
        panel.spines[["top", "right"]].set_visible(False)
    handles: list[Any] = [
        Line2D([], [], color="0.3", marker="o", label="AP of the system"),
        Line2D([], [], color="0.3", marker="^", linestyle="--", label="AR@100 of the RPN"),
        Patch(facecolor="white", edgecolor="0.3", hatch="////", label="proposal pass"),
        Patch(facecolor="0.6", alpha=0.45, label="backbone frozen"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=9)
    figure.savefig(path, dpi=110)
    return Path(path)


def plot_differences(runs: Sequence[Run], path: str | Path) -> Path:
    """Differences in AP: a dot per seed, the mean with its 95 % interval.

    Args:
        runs: the trainings.
        path: the PNG to write.
    """
    from matplotlib.figure import Figure

    rows = ap_differences(runs)
    figure = Figure(figsize=(8, 1.3 + 0.55 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for row, values in enumerate(rows.values()):
        found = spread([*values.values()])
        if found.count > 1:
            axes.errorbar(
                found.mean, row, xerr=found.half_width, color=COLORS[1], fmt="|", capsize=4,
                markersize=14, linewidth=2,
            )  # fmt: skip
        axes.plot([*values.values()], [row - 0.18] * len(values), "o", color=COLORS[0], alpha=0.7)
        for seed, value in values.items():
            axes.annotate(
                str(seed), (value, row - 0.18), xytext=(0, 5), textcoords="offset points",
                fontsize=7, color="0.4", ha="center",
            )  # fmt: skip
    axes.axvline(0, color="0.3", linewidth=0.8)
    axes.set_yticks(range(len(rows)), list(rows), fontsize=9)
    axes.set_ylim(len(rows) - 0.5, -0.6)
    axes.set_xlabel("difference in AP; dots are seeds, bars the mean with its 95 % interval")
    axes.grid(axis="x", color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    return Path(path)


def plot_lengths(found: Lengths, path: str | Path) -> Path:
    """Over the length: AP of both ways, their difference, and the ratio of their times.

    Dots are seeds, lines join their means, bars are 95 % intervals.

    Args:
        found: at least one length.
        path: the PNG to write.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12.5, 4.2), layout="constrained")
    scores, gaps, ratios = figure.subplots(1, 3)
    places = [one.passes for one in found.each]
    for arm in (ALTERNATING, JOINT, EQUAL):
        means = {
            one.passes: one.found.final[arm]["AP"].mean
            for one in found.each
            if arm in one.found.final
        }
        if means:
            label = _ROWS[arm].replace("\n", " ")
            scores.plot([*means], [*means.values()], "o-", color=_COLOR[arm], label=label)
    scores.set(ylabel="AP", title="what they end at", ylim=(0, None))
    scores.legend(fontsize=8)
    _over_lengths(gaps, places, [[*one.gap.values()] for one in found.each])
    gaps.axhline(0, color="0.3", linewidth=0.8)
    gaps.set(ylabel="AP", title="alternating minus joint")
    _over_lengths(ratios, places, [[*one.ratio.values()] for one in found.each])
    ratios.axhspan(*RECORD_RATIOS, color="0.9", zorder=0, label="on record")
    ratios.set(ylabel="alternating / joint", title="time, by median iterations")
    ratios.legend(fontsize=8)
    for panel in (scores, gaps, ratios):
        panel.set_xscale("log", base=2)
        panel.set_xticks(places, [f"{one.passes}\n{one.name}" for one in found.each], minor=False)
        panel.set_xlabel("image passes of joint training; the papers' iterations / N", fontsize=9)
        panel.margins(x=0.12)
        panel.grid(axis="y", color="0.9")
        panel.set_axisbelow(True)
        panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    return Path(path)


def _over_lengths(panel: Any, places: Sequence[int], values: Sequence[Sequence[float]]) -> None:
    """A dot per seed, means joined, with their intervals where there are several seeds."""
    means = [spread(each) for each in values]
    panel.plot(places, [mean.mean for mean in means], "-", color=COLORS[1])
    for place, each, mean in zip(places, values, means, strict=True):
        panel.plot([place] * len(each), each, "o", color=COLORS[0], alpha=0.7)
        if mean.count > 1:
            panel.errorbar(
                place, mean.mean, yerr=mean.half_width, color=COLORS[1], fmt="_", capsize=4,
                markersize=12, linewidth=1.5,
            )  # fmt: skip


def ap_differences(runs: Sequence[Run]) -> dict[str, dict[int, float]]:
    """Per seed, AP of the alternating training's end and of its step 2 minus the others'."""
    variants = {run.arm: step4 for run in runs if (step4 := step4_of(run.arm)) is not None}
    arms = _by_arm(runs, [*_ROWS, *variants])
    four = arms[ALTERNATING]
    final = {
        arm: {seed: run.final["AP"] for seed, run in found.items() if "AP" in run.final}
        for arm, found in arms.items()
    }
    step2 = {}
    for seed, run in four.items():
        scored = [s.metrics["AP"] for s in run.record.stages if "AP" in s.metrics]
        if len(scored) > 1:
            step2[seed] = scored[0]

    def ends(arm: str) -> dict[int, float]:
        return {seed: final[arm][seed] for seed in pairs(four, arms[arm]) if seed in final[arm]}

    rows = {}
    for arm in (JOINT, EQUAL):
        if arm in final:
            name = _ROWS[arm].replace("\n", " ")
            rows[f"alternating - {name}"] = differences(final[ALTERNATING], ends(arm))
            if step2:
                rows[f"after step 2 - {name}"] = differences(step2, ends(arm))
    if step2:
        rows["after step 4 - after step 2"] = differences(final[ALTERNATING], step2)
    for arm, step4 in variants.items():
        rows[f"step 4 as {step4} - as the config"] = differences(ends(arm), final[ALTERNATING])
    return {name: values for name, values in rows.items() if values}


def _by_arm(runs: Sequence[Run], names: Iterable[str] = _ROWS) -> dict[str, dict[int, Run]]:
    arms: dict[str, dict[int, Run]] = {}
    for arm in names:
        for run in runs:
            if run.arm == arm:
                arms.setdefault(arm, {}).setdefault(run.seed, run)
    return arms


def _segments(run: Run) -> list[tuple[str, float, float, bool]]:
    """Name, minutes of training and of the proposal pass after it, frozen backbone or not."""
    return [
        (
            stage.name,
            stage.seconds / 60,
            stage.proposals.seconds / 60 if stage.proposals else 0.0,
            "backbone" in stage.parts.get("frozen", ()),
        )
        for stage in run.record.stages
    ]


def _draw_bars(panel: Any, row: int, arm: str, found: Mapping[int, Run], longest: float) -> None:
    every = [_segments(run) for run in found.values()]
    begin = 0.0
    for place, (name, _, _, frozen) in enumerate(every[0]):
        training = float(np.mean([segments[place][1] for segments in every]))
        proposals = float(np.mean([segments[place][2] for segments in every]))
        panel.barh(
            row, training, left=begin, height=0.55, color=_COLOR[arm], edgecolor="white",
            alpha=0.45 if frozen else 0.9,
        )  # fmt: skip
        if training > 0.06 * longest:
            panel.text(begin + training / 2, row, name, ha="center", va="center", fontsize=8)
        begin += training
        if proposals:
            panel.barh(
                row, proposals, left=begin, height=0.55, facecolor="white",
                edgecolor=_COLOR[arm], hatch="////",
            )  # fmt: skip
        begin += proposals


def _draw_metrics(panel: Any, arm: str, found: Mapping[int, Run]) -> None:
    for metric, mark in _MARK.items():
        means: list[tuple[float, float]] = []
        points: dict[int, list[tuple[float, float]]] = {}
        for run in found.values():
            time = 0.0
            for place, (stage, segment) in enumerate(
                zip(run.record.stages, _segments(run), strict=True)
            ):
                time += segment[1]
                last = stage is run.record.stages[-1]
                metrics = {**stage.metrics, **(run.final if last else {})}
                shown = metric in metrics and (metric == "AP" or "AP" not in metrics or last)
                if shown:
                    points.setdefault(place, []).append((time, metrics[metric]))
                time += segment[2]
        for at in points.values():
            panel.plot(*zip(*at, strict=True), mark, color=_COLOR[arm], alpha=0.35, markersize=5)
            means.append(tuple(np.mean(at, axis=0)))  # type: ignore[arg-type]
        if means:
            style = "-" if metric == "AP" else "--"
            panel.plot(
                *zip(*means, strict=True), color=_COLOR[arm], linestyle=style, marker=mark,
                markersize=6,
            )  # fmt: skip
