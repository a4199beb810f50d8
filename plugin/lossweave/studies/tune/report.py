"""The report of a search: what it found, how sure that is, what it cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lossweave.studies.report.tables import counted, markdown_table, number, text_table
from lossweave.studies.tune.findings import NEAR, Grid, TuneFindings, verdict
from lossweave.studies.tune.plots import plot_front, plot_grid, plot_search
from lossweave.utils.files import write_json
from lossweave.utils.provenance import machine_line

__all__ = ["summary", "tune_text", "write_tune"]


def write_tune(found: TuneFindings, work_dir: str | Path, facts: Mapping[str, Any]) -> None:
    """Write ``tune.md``, ``tune.json`` and the pictures.

    Args:
        found: the findings.
        work_dir: where they go.
        facts: where the numbers come from.
    """
    folder = Path(work_dir)
    folder.mkdir(parents=True, exist_ok=True)
    if found.search is not None:
        plot_search(found, folder / "search.png")
    if len(found.front) > 0:
        plot_front(found, folder / "front.png")
    if found.grid is not None:
        plot_grid(found, folder / "grid.png")
    write_json(folder / "tune.json", dict(**facts, **asdict(found)))
    (folder / "tune.md").write_text(tune_text(found, facts))


def summary(found: TuneFindings) -> str:
    """What is printed at the end."""
    lines = []
    if found.search is not None:
        lines.append(_chosen(found))
    if found.confirmation is not None:
        lines.append(verdict(found.confirmation))
    lines.append(text_table(*_spent(found)))
    return "\n".join(lines)


def tune_text(found: TuneFindings, facts: Mapping[str, Any]) -> str:
    """The report in Markdown; arguments as :func:`write_tune`."""
    parts = [f"# Weights and a learning rate for {Path(found.config.split('::')[-1]).stem}"]
    given = f", with `--cfg-options {' '.join(found.options)}`" if found.options else ""
    parts.append(f"`{found.config}`, {found.length} {found.unit} a training{given}.")
    if found.search is not None:
        parts += [_chosen(found), "![Every point](search.png)", _tried(found)]
    if found.confirmation is not None:
        parts += ["## Is it better?", verdict(found.confirmation), _confirmation(found)]
    if found.grid is not None:
        parts += ["## The grid, and searches of it", _grid(found, found.grid),
                  "![The grid](grid.png)", _foretelling(found, found.grid)]  # fmt: skip
    if found.front:
        parts += ["## Classification against localisation", _front(found), "![Front](front.png)"]
    parts += ["## What was spent", markdown_table(*_spent(found))]
    parts += [
        f"Date: {facts['date']}. Code: {facts['code']}. Machine: {machine_line(facts['machine'])}.",
        f"```sh\n{facts['command']}\n```",
    ]
    return "\n\n".join(parts) + "\n"


def _chosen(found: TuneFindings) -> str:
    search = found.search or {}
    if not search.get("chosen"):
        return "No training was finished."
    weights = ", ".join(
        f"{term} {weight:g}"
        for term, weight in zip(search["terms"], search["weights"], strict=True)
    )
    first = search["tried"][0]
    own = first["rungs"].get(str(found.length), float("nan"))
    score = max(one["rungs"].get(str(found.length), 0.0) for one in search["tried"])
    return (
        f"Weights {weights} at a learning rate of {search['rate']:g} reach validation "
        f"{found.metric.upper()} {score:.3f} (seed {search['own_seed']}), the start "
        f"({first['method'].removeprefix('Sum ')}, {first['rate']:g}) {own:.3f}. "
        f"{len(search['tried'])} points were tried for {search['spent']:.2f} of "
        f"{search['budget']:g} full trainings, by {search['sampler']}."
    )


def _tried(found: TuneFindings) -> str:
    search = found.search or {}
    rungs = search["rungs"]
    rows = [
        [
            str(one["number"]),
            one["method"].removeprefix("Sum weights="),
            f"{one['rate']:.3g}",
            *(number(one["rungs"].get(str(rung), float("nan"))) for rung in rungs),
        ]
        for one in search["tried"]
    ]
    header = ["point", f"weights ({', '.join(search['terms'])})", "learning rate"]
    return markdown_table([*header, *(f"{found.metric.upper()} at {rung}" for rung in rungs)], rows)


def _confirmation(found: TuneFindings) -> str:
    one = found.confirmation
    assert one is not None
    rows = [
        [metric.upper(), number(one.means[metric][0]), number(one.means[metric][1]),
         one.difference[metric].text()]
        for metric in one.difference
    ]  # fmt: skip
    seeds = ", ".join(map(str, one.seeds))
    return (
        f"Both configs, each trained whole with seeds {seeds}, which the search has not seen; "
        f"paired by seed, on the {one.split} split, with Student's 95 % interval.\n\n"
        + markdown_table([one.split, "untuned", "tuned", "difference"], rows)
    )


def _grid(found: TuneFindings, grid: Grid) -> str:
    best = grid.best.rungs[found.length]["ap"]
    near = [p for p in grid.points if best - p.rungs[found.length]["ap"] <= NEAR]
    lines = [
        f"{_cells(grid)}, one seed. The best is {grid.best.label} with AP {best:.4f}; "
        f"{len(near)} points lie within {NEAR} of it. Each search below was restricted to the "
        "grid's points and answered from the grid's own trainings (which are deterministic), "
        "rung by rung."
    ]
    names = list(dict.fromkeys(row["search"] for row in grid.replays))
    rows = []
    for name in names:
        these = [row for row in grid.replays if row["search"] == name]
        hits = sum(row["behind"] <= NEAR for row in these)
        rows.append(
            [
                name,
                f"{hits} of {len(these)}",
                ", ".join(f"{row['behind']:.4f}" for row in these),
                f"{sum(row['points'] for row in these) / len(these):.1f}",
                f"{sum(row['spent'] for row in these) / len(these):.2f}",
            ]
        )
    header = ["search", f"within {NEAR} AP", "AP behind the best, by seed", "points", "spent"]
    lines.append(markdown_table(header, rows))
    return "\n\n".join(lines)


def _cells(grid: Grid) -> str:
    """How many of the grid's points are trained."""
    ratios = {point.ratios for point in grid.points}
    whole = len(ratios) * len({point.rate for point in grid.points})
    if len(grid.points) == whole:
        return f"{whole} points"
    return f"{len(grid.points)} of {whole} points (the others were not trained)"


def _foretelling(found: TuneFindings, grid: Grid) -> str:
    rows = [
        [f"{rung} of {found.length}", number(whole, 2), number(half, 2)]
        for rung, (whole, half) in grid.correlations.items()
    ]
    return (
        "How a training cut short, under the full training's schedule, ranks the points: "
        "Spearman's rank correlation of AP there with AP at the end.\n\n"
        + markdown_table(["looked at", "all points", "the better half"], rows)
    )


def _front(found: TuneFindings) -> str:
    said = f"Of the points trained to the end, {counted(len(found.front), 'point')} "
    said += "is" if len(found.front) == 1 else "are"
    said += " beaten by none in both AP50 (a box need not be exact) and AP75 (it has to be): "
    said += f"{'; '.join(found.front)}."
    if found.knee:
        said += f" The knee, farthest above the line between the ends, is {found.knee}."
    else:
        said += " There is no knee: none lies above the line between the ends."
    return f"{said} Scores of one seed."


def _spent(found: TuneFindings) -> tuple[list[str], list[list[str]]]:
    header = ["for", "full trainings", "trainings", "minutes"]
    rows = [
        [name, f"{whole:.2f}", str(count), f"{minutes:.1f}"]
        for name, whole, count, minutes in found.spent
    ]
    return header, rows
