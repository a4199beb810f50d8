"""The report of short runs: a row a training, and the terms over the iterations."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lossweave.studies.report.tables import markdown_table, text_table
from lossweave.studies.short_runs.findings import ShortRun, ShortRuns
from lossweave.studies.short_runs.plots import plot_short_runs
from lossweave.utils.provenance import machine_line

__all__ = ["outcome", "summary", "write_short_runs"]


def outcome(run: ShortRun) -> str:
    """What came of a training, in a few words."""
    if run.error:
        return run.error
    if not run.finite:
        return "not finite"
    return "fell" if run.fell else "did not fall"


def summary(runs: Sequence[ShortRun]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the table."""
    terms = list(dict.fromkeys(term for run in runs for term in run.terms))
    header = ["detector", "combiner", *terms, "sum of terms", "finite", "fell", "seconds"]
    rows = []
    for run in runs:
        cells = ["-"] * len(terms)
        for place, term in enumerate(terms):
            if term in run.terms:
                cells[place] = "{:.3f} → {:.3f}".format(*run.means(term))
        total = "{:.3f} → {:.3f}".format(*run.total) if run.terms else "-"
        said = "yes" if run.fell else "NO"
        rows.append(
            [run.detector, run.combiner, *cells, total, "yes" if run.finite else "NO",
             said if not run.error else "FAILED", f"{run.seconds:.0f}"]
        )  # fmt: skip
    return header, rows


def _rising(runs: Sequence[ShortRun]) -> list[str]:
    """A sentence per detector of which a single term rises."""
    sentences = []
    for detector in dict.fromkeys(run.detector for run in runs):
        found: dict[str, list[str]] = {}
        for run in runs:
            for term in run.rose if run.detector == detector else []:
                found.setdefault(term, []).append(run.combiner)
        count = sum(run.detector == detector for run in runs)
        for term, names in found.items():
            who = "every combiner" if len(names) == count else ", ".join(names)
            sentences.append(f"On {detector}, {term} alone rises under {who}.")
    return sentences


def write_short_runs(short: ShortRuns, runs: Sequence[ShortRun], facts: Mapping[str, Any]) -> None:
    """Write ``short_runs.md``, ``.json`` and ``.png``, and print the table.

    Args:
        short: what was asked for; its ``work_dir`` is written to.
        runs: the trainings.
        facts: where the numbers come from, as
            :func:`~lossweave.utils.provenance.provenance` has it.
    """
    folder = Path(short.work_dir)
    folder.mkdir(parents=True, exist_ok=True)
    table = summary(runs)
    bad = [run for run in runs if not run.good]
    verdict = (
        f"All {len(runs)} trainings are finite, and the sum of the terms falls in each."
        if not bad
        else f"{len(bad)} of {len(runs)} trainings are not as they should be: "
        + "; ".join(f"{run.detector} {run.combiner} ({outcome(run)})" for run in bad)
        + "."
    )
    verdict += "".join(f" {sentence}" for sentence in _rising(runs))
    curves: dict[str, Mapping[str, Mapping[str, Sequence[float]]]] = {}
    for run in runs:
        if run.terms:
            curves[run.detector] = {**curves.get(run.detector, {}), run.combiner: run.terms}
    if curves:
        plot_short_runs(curves, folder / "short_runs.png")
    results = [{**asdict(run), "good": run.good, "fell": run.fell} for run in runs]
    (folder / "short_runs.json").write_text(json.dumps({**facts, "runs": results}))
    boundary = (
        f"`boundary={short.boundary!r}`" if short.boundary else "each combiner's own boundary"
    )
    text = f"""# {short.iterations} iterations of every combiner

{verdict}

```bash
{short.command}
```

The demo's detectors on the demo data, {short.batch_size} pictures an iteration, seed {short.seed},
{boundary}, learning rate schedules shortened to {short.iterations} iterations. Per term: the mean
of its raw loss over the first and over the last fifth of the iterations. This shows that a
training runs, not which one is better. Measured {facts["date"]} on \
{machine_line(facts["machine"])}.

{markdown_table(*table)}

![The terms over the iterations, a line per combiner](short_runs.png)
"""
    (folder / "short_runs.md").write_text(text)
    print(f"\n{text_table(*table)}\n\n{verdict}\n\nwritten: {folder / 'short_runs.md'}")
