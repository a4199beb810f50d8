"""The tiers: each one's verdict and cost, and whether its ranks hold in another one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import isnan, nan
from pathlib import Path

import numpy as np
from scipy import stats

from lossweave.studies.compare.findings import ComparisonFindings
from lossweave.studies.compare.report import together_text
from lossweave.studies.ledger.result import Result
from lossweave.studies.report.many import holm
from lossweave.studies.report.plots import COLORS
from lossweave.studies.report.tables import markdown_table, probability
from lossweave.studies.runs.method import RATE

__all__ = ["Ranks", "Tier", "ranks_of", "tiers_text", "verdict_of", "write_tiers"]

#: Methods that two tiers share, at least, for anything to be said of their ranks.
_ENOUGH = 4
_DRAWS = 2000
#: Of a corrected probability, below which something is said to be shown.
_LEVEL = 0.05


@dataclass(frozen=True)
class Tier:
    """A comparison as others see it.

    Args:
        name: its folder's.
        config: the detector's.
        scores: by method, the mean test AP.
        seeds: by method, how many.
        options: further ``--cfg-options`` but the rate, e.g. another optimizer.
        verdict: over all methods, in one sentence with the smallest effect.
        seconds: of each training, without evaluations, times its threads.
        accelerators: on which they were trained, where not on a core.
    """

    name: str
    config: str
    scores: Mapping[str, float]
    seeds: Mapping[str, int]
    options: tuple[str, ...] = ()
    verdict: str = ""
    seconds: tuple[float, ...] = ()
    accelerators: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        name: str,
        config: str,
        found: ComparisonFindings,
        results: Sequence[Result] = (),
    ) -> Tier:
        """The tier of a comparison's findings and of the results that they are of."""
        rows = {row["method"]: row for row in found.rows}
        scores = {label: row["test"] for label, row in rows.items()}
        seeds = {label: row["seeds"] for label, row in rows.items()}
        seconds = tuple(
            r.seconds["training"] * (r.machine.threads or 1)
            for r in results
            if r.seconds.get("training")
        )
        told = results[0].options if results else ()
        options = tuple(option for option in told if option.partition("=")[0] != RATE)
        cards = tuple(sorted({r.machine.accelerator for r in results if r.machine.accelerator}))
        return cls(name, config, scores, seeds, options, together_text(found), seconds, cards)

    @property
    def setting(self) -> tuple[str, tuple[str, ...]]:
        """What its methods share."""
        return self.config, self.options

    @property
    def label(self) -> str:
        """Its folder, the detector's config, and what is set otherwise.

        Example:
            >>> told = ("optim_wrapper.optimizer._delete_=True", "optim_wrapper.optimizer.type=SGD")
            >>> Tier("screen_sgd", "a::b/retinanet_screen.py", {}, {}, told).label
            'screen_sgd (retinanet_screen, type=SGD)'
        """
        words = [Path(self.config).stem]
        for option in self.options:
            key, _, value = option.partition("=")
            if not key.endswith("._delete_"):
                words.append(f"{key.rpartition('.')[2]}={value}")
        return f"{self.name} ({', '.join(words)})"


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
        corrected: that for the number of pairs of tiers, after Holm.
    """

    tiers: tuple[Tier, Tier]
    methods: tuple[str, ...]
    tau: float
    low: float
    high: float
    p: float
    corrected: float = nan


def ranks_of(tiers: Sequence[Tier]) -> list[Ranks]:
    """Of every two tiers of different detectors or options that share methods enough.

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
        # Of equal ones by name: a set has another order in every process.
        shared = sorted(set(one.scores) & set(other.scores), key=lambda m: (-one.scores[m], m))
        if one.setting == other.setting or len(shared) < _ENOUGH:
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
    corrected = holm({at: ranks.p for at, ranks in enumerate(found)})
    return [replace(ranks, corrected=corrected[at]) for at, ranks in enumerate(found)]


def write_tiers(tiers: Sequence[Tier], folder: str | Path) -> bool:
    """Write ``tiers.md``, and ``tiers.png`` where two tiers share methods.

    Args:
        tiers: the comparisons below the folder.
        folder: where they go.

    Returns:
        Whether there was anything to write.
    """
    if not tiers:
        return False
    found = ranks_of(tiers)
    if found:
        _plot(found, Path(folder) / "tiers.png")
    (Path(folder) / "tiers.md").write_text(tiers_text(tiers, found))
    return True


def tiers_text(tiers: Sequence[Tier], found: Sequence[Ranks]) -> str:
    """The page, in Markdown.

    Args:
        tiers: at least one.
        found: of every two of them that share methods.
    """
    header = ["tier", "methods", "seeds", "trainings", "on", "seconds a training", "at best"]
    table = markdown_table([*header, "trainings a core hour"], [_costs(tier) for tier in tiers])
    verdicts = "\n".join(f"- **{tier.label}**: {tier.verdict or '-'}" for tier in tiers)
    return f"""# The tiers: verdicts, costs, and whether ranks hold

{verdicts}

{table}

Seeds are those of a method in the median, trainings all that the ledger has, those of the search
for a rate included. Seconds are of one core and in the median, without evaluations and the start
of a process; trainings that shared their cores with other work took longer than they would alone,
so the quickest one is beside them. Of a GPU they are those of one of several trainings that shared
it. How methods are compared is in [the protocol](protocol.md).

## Do ranks hold from one tier to the other?

{_ranks_text(found)}"""


def _costs(tier: Tier) -> list[str]:
    seeds = f"{np.median([*tier.seeds.values()]):g}" if tier.seeds else "-"
    line = [tier.label, str(len(tier.scores)), seeds]
    if not tier.seconds:
        return [*line, *["-"] * 5]
    typical = float(np.median(tier.seconds))
    on = ", ".join(tier.accelerators) or "a core"
    hourly = "-" if tier.accelerators else f"{3600 / typical:.0f}"
    times = [f"{typical:.0f}", f"{min(tier.seconds):.0f}", hourly]
    return [*line, str(len(tier.seconds)), on, *times]


def _ranks_text(found: Sequence[Ranks]) -> str:
    if not found:
        return (
            f"No two tiers of different detectors or options share {_ENOUGH} methods, so nothing "
            "is said.\n"
        )
    rows = [
        [
            f"{ranks.tiers[0].name}, {ranks.tiers[1].name}",
            str(len(ranks.methods)),
            f"{ranks.tau:+.2f}",
            f"{ranks.low:+.2f} to {ranks.high:+.2f}",
            probability(ranks.p),
            probability(ranks.corrected),
        ]
        for ranks in found
    ]
    methods = "\n".join(
        f"- {ranks.tiers[0].name}, {ranks.tiers[1].name}: "
        + "; ".join(f"{m} ({_seeds(ranks, m)})" for m in ranks.methods)
        for ranks in found
    )
    verdicts = "\n".join(f"- {verdict_of(ranks)}" for ranks in found)
    columns = ["tiers", "methods", "Kendall's tau", "95 %"]
    return f"""{verdicts}

{markdown_table([*columns, "p of no relation", "p (Holm)"], rows)}

Tau is 1 where both tiers order all methods alike, -1 where the one is the other's reverse. Its
interval is that of a bootstrap over methods, p (Holm) is corrected for the number of pairs of
tiers, and ranks of one tier are said to predict the other's where both show it. Methods, from the
best of the first tier, with the seeds in both:

{methods}

![Ranks in every two tiers](tiers.png)
"""


def verdict_of(ranks: Ranks) -> str:
    """Whether the ranks of the first tier predict those of the second, in one sentence.

    Args:
        ranks: of the two.
    """
    one, other = (tier.name for tier in ranks.tiers)
    shown = ranks.low > 0 and ranks.corrected < _LEVEL
    told = "predict" if shown else "are not shown to predict"
    return f"The ranks of {one} {told} those of {other} (tau {ranks.tau:+.2f})."


def _seeds(ranks: Ranks, method: str) -> str:
    return " and ".join(str(tier.seeds[method]) for tier in ranks.tiers)


#: Panels in a row of the picture.
_COLUMNS = 3


def _plot(found: Sequence[Ranks], path: Path) -> None:
    """A panel for every two tiers: a row per method in the order of the one, its rank in the other.

    Where ranks hold, dots lie on the line.
    """
    from matplotlib.figure import Figure

    columns = min(_COLUMNS, len(found))
    lines = -(-len(found) // columns)
    longest = max(len(ranks.methods) for ranks in found)
    size = (5.4 * columns, lines * (1.5 + 0.24 * longest))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes in panels[len(found) :]:
        axes.set_axis_off()
    for axes, ranks in zip(panels, found, strict=False):
        one, other = ranks.tiers
        places = range(1, len(ranks.methods) + 1)
        reached = stats.rankdata([-other.scores[m] for m in ranks.methods])
        axes.plot(places, places, color="0.8", linewidth=1)
        for place, rank in zip(places, reached, strict=True):
            axes.plot([place, rank], [place, place], color=COLORS[1], alpha=0.4, linewidth=1)
        axes.plot(reached, places, "o", color=COLORS[0])
        short = [m.replace(" boundary=features", "") for m in ranks.methods]
        axes.set_yticks(places, short, fontsize=8)
        axes.set_ylim(len(places) + 0.6, 0.4)
        axes.set(xlabel=f"rank in {other.name}", ylabel=f"from the best in {one.name}")
        axes.set_title(f"tau {ranks.tau:+.2f} ({ranks.low:+.2f} to {ranks.high:+.2f})", fontsize=10)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(axis="y", color="0.93", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
