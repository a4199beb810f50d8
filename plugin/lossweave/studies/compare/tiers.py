"""Whether the ranks of one comparison hold in another one: Kendall's tau over their methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import isnan, nan
from pathlib import Path

import numpy as np
from scipy import stats

from lossweave.studies.compare.findings import ComparisonFindings
from lossweave.studies.report.plots import COLORS
from lossweave.studies.report.tables import markdown_table

__all__ = ["Ranks", "Tier", "ranks_of", "tiers_text", "verdict_of", "write_tiers"]

#: Methods that two tiers share, at least, for anything to be said of their ranks.
_ENOUGH = 4
_DRAWS = 2000


@dataclass(frozen=True)
class Tier:
    """A comparison as others see it.

    Args:
        name: its folder's.
        config: the detector's.
        scores: by method, the mean test AP.
        seeds: by method, how many.
    """

    name: str
    config: str
    scores: Mapping[str, float]
    seeds: Mapping[str, int]

    @classmethod
    def of(cls, name: str, config: str, found: ComparisonFindings) -> Tier:
        """The tier of a comparison's findings."""
        rows = {row["method"]: row for row in found.rows}
        scores = {label: row["test"] for label, row in rows.items()}
        return cls(name, config, scores, {label: row["seeds"] for label, row in rows.items()})


@dataclass(frozen=True)
class Ranks:
    """What two tiers say of the methods that both have.

    Args:
        tiers: the two.
        methods: shared, from the first tier's best.
        tau: Kendall's tau-b; nan where one tier has all methods alike.
        low: of the 95 % interval, by drawing methods anew.
        high: likewise.
        p: of no relation.
    """

    tiers: tuple[Tier, Tier]
    methods: tuple[str, ...]
    tau: float
    low: float
    high: float
    p: float


def ranks_of(tiers: Sequence[Tier]) -> list[Ranks]:
    """Of every two tiers of different detectors that share methods enough.

    The interval is that of a bootstrap over methods, with a fixed seed. A handful of methods
    gives a wide one.

    Args:
        tiers: the comparisons.

    Example:
        >>> scores = dict(zip("ABCDE", (0.5, 0.4, 0.3, 0.2, 0.1)))
        >>> small, large = (Tier(n, n, scores, dict.fromkeys(scores, 1)) for n in ("a", "b"))
        >>> round(ranks_of([small, large])[0].tau, 6)
        1.0
    """
    found = []
    for one, other in combinations(tiers, 2):
        shared = sorted(set(one.scores) & set(other.scores), key=lambda m: -one.scores[m])
        if one.config == other.config or len(shared) < _ENOUGH:
            continue
        a, b = (np.array([tier.scores[m] for m in shared]) for tier in (one, other))
        tau, p = stats.kendalltau(a, b)
        draws = np.random.default_rng(0).integers(len(shared), size=(_DRAWS, len(shared)))
        taus = [stats.kendalltau(a[draw], b[draw]).statistic for draw in draws]
        kept = [value for value in taus if not isnan(value)]
        low, high = np.quantile(kept, [0.025, 0.975]) if kept else (nan, nan)
        found.append(
            Ranks((one, other), tuple(shared), float(tau), float(low), float(high), float(p))
        )
    return found


def write_tiers(tiers: Sequence[Tier], folder: str | Path) -> bool:
    """Write ``tiers.md`` and ``tiers.png`` where two tiers share methods.

    Args:
        tiers: the comparisons below the folder.
        folder: where they go.

    Returns:
        Whether there was anything to write.
    """
    found = ranks_of(tiers)
    if not found:
        return False
    _plot(found, Path(folder) / "tiers.png")
    (Path(folder) / "tiers.md").write_text(tiers_text(found))
    return True


def tiers_text(found: Sequence[Ranks]) -> str:
    """The page, in Markdown.

    Args:
        found: at least one.
    """
    rows = [
        [
            f"{ranks.tiers[0].name}, {ranks.tiers[1].name}",
            str(len(ranks.methods)),
            f"{ranks.tau:+.2f}",
            f"{ranks.low:+.2f} to {ranks.high:+.2f}",
            f"{ranks.p:.3f}",
        ]
        for ranks in found
    ]
    methods = "\n".join(
        f"- {ranks.tiers[0].name}, {ranks.tiers[1].name}: "
        + "; ".join(f"{m} ({_seeds(ranks, m)})" for m in ranks.methods)
        for ranks in found
    )
    return f"""# Do ranks hold from one tier to the other?

{' '.join(map(verdict_of, found))}

{markdown_table(["tiers", "methods", "Kendall's tau", "95 %", "p of no relation"], rows)}

Tau is 1 where both tiers order all methods alike, -1 where the one is the other's reverse. Its
interval is that of a bootstrap over methods. Methods, from the best of the first tier, with the
seeds in both:

{methods}

![Test AP in two tiers](tiers.png)
"""


def verdict_of(ranks: Ranks) -> str:
    """Whether the ranks of the first tier predict those of the second, in one sentence.

    Args:
        ranks: of the two.
    """
    one, other = (tier.name for tier in ranks.tiers)
    told = "predict" if ranks.low > 0 else "are not shown to predict"
    return f"The ranks of {one} {told} those of {other} (tau {ranks.tau:+.2f})."


def _seeds(ranks: Ranks, method: str) -> str:
    return " and ".join(str(tier.seeds[method]) for tier in ranks.tiers)


def _plot(found: Sequence[Ranks], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2 * len(found), 4.8), layout="constrained")
    panels = figure.subplots(1, len(found), squeeze=False)[0]
    for axes, ranks in zip(panels, found, strict=True):
        one, other = ranks.tiers
        for method in ranks.methods:
            point = (one.scores[method], other.scores[method])
            axes.plot(*point, "o", color=COLORS[0])
            short = method.replace(" boundary=features", "")
            axes.annotate(short, point, xytext=(4, 4), textcoords="offset points", fontsize=8)
        axes.set(
            xlabel=f"test AP, {one.name}",
            ylabel=f"test AP, {other.name}",
            title=f"tau {ranks.tau:+.2f}",
        )
        axes.margins(x=0.2)
        axes.grid(True, color="0.9", linewidth=0.8)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
