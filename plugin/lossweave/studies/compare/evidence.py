"""All comparisons in two tables: a row a tier, and a row a method over the tiers."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from statistics import median

from lossweave.studies.compare.findings import ComparisonFindings
from lossweave.studies.compare.over_tiers import ENOUGH, over_tiers
from lossweave.studies.compare.tiers import Tier
from lossweave.studies.report.blocks import write_block
from lossweave.studies.report.tables import markdown_table, number

__all__ = ["METHODS", "TIERS", "Compared", "methods_table", "tiers_table", "write_evidence"]

#: The names of the blocks of a page where the tables go.
TIERS, METHODS = "tiers", "methods over tiers"


@dataclass(frozen=True)
class Compared:
    """A tier with what its comparison found.

    Args:
        tier: its name, detector and seeds.
        found: the comparison's findings.
    """

    tier: Tier
    found: ComparisonFindings

    @property
    def others(self) -> dict[str, float]:
        """By method beside the tuned sum with two pairs of seeds or more, the mean difference."""
        pairs = {method: len(found) for method, found in self.found.differences.items()}
        means = {row["method"]: row["difference"] for row in self.found.rows}
        return {method: means[method] for method, count in pairs.items() if count > 1}

    @property
    def above(self) -> list[str]:
        """The others above the tuned sum after the correction."""
        return [method for method in self.found.told(1) if method in self.others]

    @property
    def below(self) -> list[str]:
        """The others below the tuned sum after the correction."""
        return [method for method in self.found.told(-1) if method in self.others]

    def error(self, method: str) -> float:
        """The standard error of a method's mean difference."""
        return self.found.many.sd / sqrt(len(self.found.differences[method]))

    def beside(self, method: str) -> str:
        """A method minus the tuned sum, in bold where that holds after the correction."""
        if method == self.found.tuned:
            return "the tuned sum"
        if method not in self.others:
            return ""
        text = f"{self.others[method]:+.3f} ± {self.found.many.half_widths[method]:.3f}"
        return f"**{text}**" if method in (*self.above, *self.below) else text


def tiers_table(compared: Sequence[Compared], root: str) -> str:
    """A row a tier: how much was trained, and how the tuned sum stands.

    Args:
        compared: the tiers.
        root: the way from the page to the tiers' folders.
    """
    header = ["tier", "methods x seeds", "tuned sum, test AP", "plain sum minus it"]
    header += ["the best other minus it", "above it, below it", "smallest effect it shows"]
    lines = []
    for one in compared:
        tier, found = one.tier, one.found
        best = max(one.others, key=lambda m: one.others[m], default="")
        seeds = median(tier.seeds[method] for method in (*one.others, found.tuned))
        lines.append(
            [
                f"[{tier.label}]({root}/{tier.name}/comparison.md)",
                f"{len(one.others) + 1} x {seeds:g}",
                f"`{found.tuned}` {tier.scores[found.tuned]:.3f}",
                one.beside("Sum") or "-",
                f"`{best}` {one.beside(best)}" if best else "-",
                f"{len(one.above)}, {len(one.below)} of {len(one.others)}",
                number(found.many.smallest),
            ]
        )
    return markdown_table(header, lines)


def methods_table(compared: Sequence[Compared], root: str) -> str:
    """A row a method, a column a tier: the method minus the tier's tuned sum.

    Methods that several tiers have come first, then those with the larger mean difference. The
    last column is their difference over all tiers in which they are not the tuned sum themselves.
    Below the table stands which of several tiers' methods no tier shows to be below its tuned sum.

    Args:
        compared: the tiers.
        root: the way from the page to the tiers' folders.
    """
    header = ["method", *(f"[{c.tier.name}]({root}/{c.tier.name}/comparison.md)" for c in compared)]
    places: dict[str, list[float]] = {}
    for one in compared:
        places.setdefault(one.found.tuned, []).append(0.0)
        for method, mean in one.others.items():
            places.setdefault(method, []).append(mean)

    def order(method: str) -> tuple[float, float, str]:
        found = places[method]
        return -len(found), -sum(found) / len(found), method

    methods = sorted(places, key=order)
    lines = [
        [f"`{method}`", *(one.beside(method) for one in compared), _over(compared, method)]
        for method in methods
    ]
    never = [
        f"`{method}` ({len(places[method])} tiers)"
        for method in methods
        if len(places[method]) > 1 and not any(method in one.below for one in compared)
    ]
    said = f"In two tiers or more, and in none shown to be below its tuned sum: {', '.join(never)}."
    table = markdown_table([*header, "over the tiers"], lines)
    return table + (f"\n\n{said}" if never else "")


def _over(compared: Sequence[Compared], method: str) -> str:
    having = [one for one in compared if method in one.others]
    if len(having) < ENOUGH:
        return ""
    errors = [one.error(method) for one in having]
    mean, half = over_tiers([one.others[method] for one in having], errors)
    return f"{mean:+.3f} ± {half:.3f}"


def write_evidence(
    compared: Sequence[Compared], folder: str | Path, pages: Sequence[str | Path]
) -> list[str]:
    """Write both tables into the pages that have a place for them.

    Args:
        compared: the tiers.
        folder: in which the tiers' folders are.
        pages: Markdown files, which need not exist.

    Returns:
        The blocks that were written.
    """
    tables = {TIERS: tiers_table, METHODS: methods_table}
    return [
        name
        for page in pages
        for name, table in tables.items()
        if write_block(page, name, table(compared, os.path.relpath(folder, Path(page).parent)))
    ]

