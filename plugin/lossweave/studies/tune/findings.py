"""What the results of a search say: computed once, for report, plots and record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import stats

from lossweave.errors import LossweaveError
from lossweave.studies.ledger.result import Result
from lossweave.studies.report.paired import Spread, differences, spread
from lossweave.studies.report.tables import counted
from lossweave.studies.tune.confirm import TUNED, UNTUNED

__all__ = ["Confirmation", "Grid", "Trained", "TuneFindings", "find", "front", "knee", "verdict"]

#: How near to a grid's best a search has to end.
NEAR = 0.005


@dataclass(frozen=True)
class Trained:
    """One point with its scores at the rungs that were reached.

    Args:
        method: the sum of its weights.
        rate: its learning rate.
        ratios: its log-ratios.
        rungs: by rung, its scores by metric.
        seconds: of its training, as far as it is recorded.
    """

    method: str
    rate: float
    ratios: tuple[float, ...]
    rungs: Mapping[int, Mapping[str, float]]
    seconds: float

    @property
    def reached(self) -> int:
        """The last rung."""
        return max(self.rungs)

    @property
    def label(self) -> str:
        """The point in a few words."""
        return f"{self.method.removeprefix('Sum ')}, lr {self.rate:g}"


@dataclass(frozen=True)
class Grid:
    """A full grid, and what searches of it ended with.

    Args:
        points: all of it, trained to the end.
        best: the best.
        correlations: by rung, Spearman's rank correlation of the scores there with those at the
            end, over all points, and over the better half.
        replays: by search, its seed, its score, its difference to the best, what it spent.
    """

    points: tuple[Trained, ...]
    best: Trained
    correlations: Mapping[int, tuple[float, float]]
    replays: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Confirmation:
    """The tuned config beside the untuned one.

    Args:
        split: 'test' or 'val'.
        difference: by metric, tuned minus untuned, paired by seed.
        means: by metric, the untuned and the tuned mean.
        seeds: those that were trained.
    """

    split: str
    difference: Mapping[str, Spread]
    means: Mapping[str, tuple[float, float]]
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class TuneFindings:
    """All that a report says.

    Args:
        config: the user's.
        options: its ``--cfg-options``.
        length: of a whole training.
        unit: in what.
        metric: which score was maximised.
        points: every point that was trained.
        search: the details of the search, as its result has them; None for a grid alone.
        grid: None without one.
        confirmation: None without one.
        front: labels of the points of which none is better in both qualities, by AP50.
        knee: the label of the one that gives up least of both; None where none does.
        spent: rows of the table of what was spent.
    """

    config: str
    options: tuple[str, ...]
    length: int
    unit: str
    metric: str
    points: tuple[Trained, ...]
    search: dict[str, Any] | None
    grid: Grid | None
    confirmation: Confirmation | None
    front: tuple[str, ...]
    knee: str | None
    spent: tuple[tuple[str, float, int, float], ...] = field(default=())


def find(results: Sequence[Result]) -> TuneFindings:
    """Everything that a report says, from results of one config.

    Raises:
        LossweaveError: there is neither a search nor a training among them.
    """
    searches = [r for r in results if r.method.startswith("search by")]
    replays = [r for r in results if r.method.startswith("replayed search")]
    pairs = [r for r in results if r.method.startswith((UNTUNED, TUNED))]
    own = [r for r in results if r.method.startswith("Sum weights=")]
    if not own:
        raise LossweaveError("a report of a search lacks its trainings")
    length = max(int(r.budget["rung"]) for r in own)
    unit = "epochs" if "epochs" in own[0].budget else "iterations"
    points = _points(own)
    search = dict(searches[-1].details) if searches else None
    grid = _grid(points, replays, length) if replays else None
    metric = str(search["metric"]) if search else "ap"
    finished = [p for p in points if p.reached == length]
    best = front([(p.rungs[length]["ap50"], p.rungs[length]["ap75"]) for p in finished])
    at = knee(
        [(finished[i].rungs[length]["ap50"], finished[i].rungs[length]["ap75"]) for i in best]
    )
    return TuneFindings(
        config=own[0].config,
        options=own[0].options,
        length=length,
        unit=unit,
        metric=metric,
        points=points,
        search=search,
        grid=grid,
        confirmation=_confirmation(pairs) if pairs else None,
        front=tuple(finished[i].label for i in best),
        knee=None if at is None else finished[best[at]].label,
        spent=_spent(points, pairs, length),
    )


def verdict(found: Confirmation) -> str:
    """The confirmation in one sentence.

    Example:
        >>> one = spread([0.01, 0.02, 0.03])
        >>> verdict(Confirmation("test", {"ap": one}, {"ap": (0.5, 0.52)}, (1, 2, 3)))
        'No difference could be shown: tuned minus untuned is +0.020 ± 0.025 AP on test, 3 seeds.'
    """
    ap = found.difference["ap"]
    said = f"{ap.text()} AP on {found.split}, {counted(ap.count, 'seed')}"
    if ap.sign == 0:
        return f"No difference could be shown: tuned minus untuned is {said}."
    better = "better" if ap.sign > 0 else "WORSE"
    return f"The tuned config is {better}: {said}."


def front(qualities: Sequence[tuple[float, float]]) -> list[int]:
    """Which of some pairs no other one is better than in both, by the first quality ascending.

    Example:
        >>> front([(0.5, 0.3), (0.6, 0.2), (0.4, 0.1)])
        [0, 1]
    """
    kept = [
        i
        for i, (a, b) in enumerate(qualities)
        if not any(
            c >= a and d >= b and ((c, d) != (a, b) or j < i)
            for j, (c, d) in enumerate(qualities)
            if j != i
        )
    ]
    return sorted(kept, key=lambda i: qualities[i])


def knee(qualities: Sequence[tuple[float, float]]) -> int | None:
    """Which point of a front lies farthest above the line between its ends; None if none does.

    Args:
        qualities: of a front, by the first quality ascending; each is scaled to its range.

    Example:
        >>> knee([(0.0, 1.0), (0.8, 0.9), (1.0, 0.0)])
        1
        >>> knee([(0.0, 1.0), (0.2, 0.1), (1.0, 0.0)]) is None
        True
    """
    if len(qualities) < 3:
        return None
    values = np.asarray(qualities, dtype=float)
    span = values.max(axis=0) - values.min(axis=0)
    above = ((values - values.min(axis=0)) / np.where(span > 0, span, 1)).sum(axis=1)
    at = int(above.argmax())
    return at if above[at] > 1 + 1e-9 else None


def _points(results: Sequence[Result]) -> tuple[Trained, ...]:
    merged: dict[tuple[str, float], list[Result]] = {}
    for one in results:
        merged.setdefault((one.method, float(one.rate or 0.0)), []).append(one)
    return tuple(
        Trained(
            method=method,
            rate=rate,
            ratios=tuple(ones[0].details.get("ratios", ())),
            rungs={int(r.budget["rung"]): r.scores for r in ones},
            seconds=sum(r.seconds.get("training", 0.0) for r in ones),
        )
        for (method, rate), ones in merged.items()
    )


def _grid(points: Sequence[Trained], replays: Sequence[Result], length: int) -> Grid:
    whole = tuple(p for p in points if p.reached == length)
    best = max(whole, key=lambda p: p.rungs[length]["ap"])
    rows = [
        dict(
            search=one.method.removeprefix("replayed search by "),
            seed=one.seed,
            chosen=f"{one.details['chosen']}, lr {one.details['rate']:g}",
            score=one.scores["ap"],
            behind=best.rungs[length]["ap"] - one.scores["ap"],
            spent=one.details["spent"],
            budget=one.details["budget"],
            points=len(one.details["tried"]),
        )
        for one in replays
    ]
    return Grid(whole, best, _correlations(whole, length), tuple(rows))


def _correlations(points: Sequence[Trained], length: int) -> dict[int, tuple[float, float]]:
    ends = np.array([p.rungs[length]["ap"] for p in points])
    half = ends >= np.median(ends)
    found = {}
    for rung in sorted(set.intersection(*(set(p.rungs) for p in points)) - {length}):
        here = np.array([p.rungs[rung]["ap"] for p in points])
        found[rung] = (
            float(stats.spearmanr(here, ends).statistic),
            float(stats.spearmanr(here[half], ends[half]).statistic),
        )
    return found


def _confirmation(results: Sequence[Result]) -> Confirmation:
    by_name: dict[str, dict[int, Result]] = {UNTUNED: {}, TUNED: {}}
    for one in results:
        name = UNTUNED if one.method.startswith(UNTUNED) else TUNED
        by_name[name][one.seed] = one
    tested = all("test_ap" in one.scores for one in results)
    split = "test" if tested else "val"
    seeds = sorted(by_name[UNTUNED].keys() & by_name[TUNED].keys())
    same = [s for s in seeds if by_name[UNTUNED][s].place == by_name[TUNED][s].place]
    difference, means = {}, {}
    for metric in ("ap", "ap50", "ap75"):
        tuned, untuned = (
            {s: by_name[name][s].scores[f"{split}_{metric}"] for s in same}
            for name in (TUNED, UNTUNED)
        )
        difference[metric] = spread(list(differences(tuned, untuned).values()))
        means[metric] = (
            float(np.mean([*untuned.values()])) if same else float("nan"),
            float(np.mean([*tuned.values()])) if same else float("nan"),
        )
    return Confirmation(split, difference, means, tuple(same))


def _spent(
    points: Sequence[Trained], pairs: Sequence[Result], length: int
) -> tuple[tuple[str, float, int, float], ...]:
    """What for, in full trainings; how many trainings; their minutes."""
    rows = []
    for rung in sorted({p.reached for p in points}):
        these = [p for p in points if p.reached == rung]
        name = "trained to the end" if rung == length else f"ended at {rung}"
        rows.append(
            (name, len(these) * rung / length, len(these), sum(p.seconds for p in these) / 60)
        )
    if pairs:
        minutes = sum(r.seconds.get("training", 0.0) for r in pairs) / 60
        rows.append(("confirmation", float(len(pairs)), len(pairs), minutes))
    return tuple(rows)
