"""What every report of arms has: the end of the page, and its facts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any

from lossweave.studies.arms.study import PLACES
from lossweave.studies.ledger.facts import facts_of, places_text
from lossweave.studies.ledger.places import counted_as_one
from lossweave.studies.ledger.result import Result
from lossweave.studies.report.paired import Spread
from lossweave.studies.report.tables import markdown_table
from lossweave.utils.files import write_json
from lossweave.utils.provenance import machine_line

__all__ = ["alike", "arm_name", "cell", "facts_for", "write_page"]


def alike(result: Result) -> Any:
    """Arms are compared: detector and budget are the same, what is set differs."""
    return (result.study, result.config, tuple(sorted(result.budget.items())))


def arm_name(result: Result) -> str:
    """Where an arm stands, in words."""
    places: Mapping[str, Any] = result.details[PLACES]
    said = [f"{axis} {v if isinstance(v, str) else format(v, 'g')}" for axis, v in places.items()]
    return ", ".join(said)


def cell(found: Spread, signed: bool = True) -> str:
    """A spread in a table, where a single seed needs no word: the title says how many there are.

    Example:
        >>> from lossweave.studies.report.paired import spread
        >>> cell(spread([0.5])), cell(spread([0.5, 0.5]), signed=False), cell(spread([]))
        ('+0.500', '0.500 ± 0.000', '-')
    """
    return found.text(signed=signed).removesuffix(" (one seed)")


def facts_for(results: Sequence[Result]) -> dict[str, Any]:
    """Where the numbers come from."""
    seeds = sorted({result.seed for result in results})
    return facts_of(results, config=results[0].config, seeds=seeds, budget=results[0].budget)


def write_page(
    folder: str | Path,
    name: str,
    parts: Sequence[str],
    results: Sequence[Result],
    findings: Any,
) -> Path:
    """Write ``NAME.md``, its facts and trainings at the end, and ``NAME.json``; say where.

    Args:
        folder: where to.
        name: the study's.
        parts: the page above that: paragraphs, tables, pictures.
        results: the trainings.
        findings: plain values for the JSON.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    facts = facts_for(results)
    places = places_text((r.place, f"{arm_name(r)}, seed {r.seed}") for r in results)
    ended = [
        *parts,
        *([f"## Trained in several places\n\n{places}"] if places else []),
        *([one] if (one := counted_as_one(results)) else []),
        "## Every training\n\n" + _trainings(results),
        f"Command: `{facts['command']}`",
        f"Date: {facts['date']}. Code: {facts['code']}. Machine: {machine_line(facts['machine'])}.",
    ]
    write_json(folder / f"{name}.json", {**facts, "findings": findings})
    page = folder / f"{name}.md"
    page.write_text("\n\n".join(ended) + "\n")
    return page


def _trainings(results: Sequence[Result]) -> str:
    by_arm: Callable[[Result], Any] = attrgetter("seed")
    rows = [
        [
            f"{arm_name(r)}, seed {r.seed}",
            "diverged" if "diverged" in r.details else f"{r.scores['test']:.3f}",
            f"{r.seconds.get('training', float('nan')):.0f}",
            f"`{r.command}`",
        ]
        for r in sorted(results, key=by_arm)
    ]
    return markdown_table(["training", "AP", "seconds", "command"], rows)
