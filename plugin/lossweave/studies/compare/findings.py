"""What a comparison asks for, and what its scores say: computed once, for report and record."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np

from lossweave.errors import LossweaveError
from lossweave.studies.compare.rates import at_rates, rate_edges, weights_at_edge
from lossweave.studies.ledger.book import LedgerOptions
from lossweave.studies.report.many import Many, against_one
from lossweave.studies.report.paired import paired_interval
from lossweave.studies.runs.demo_data import DEFAULT_CONFIG
from lossweave.studies.runs.method import Method, Score

__all__ = ["Comparison", "ComparisonFindings", "alike", "counted", "find", "repeated", "summarize"]


@dataclass(frozen=True)
class Comparison:
    """What to train.

    Args:
        methods: the methods; at least one of them a ``Sum``.
        seeds: one training per method and seed.
        config: an iteration-based config with COCO evaluation on two splits.
        work_dir: where everything is written; finished trainings are kept.
        jobs: trainings at a time, each with an equal share of the cores.
        options: further ``--cfg-options``, the same for all.
        command: the command that asked for it, for the report.
        rates: learning rates, trained in this order with the first seed; every method's further
            seeds are trained at its best one. Without any, all have the config's.
        ledger: where results are, and what of them counts.
        rates_for: 'all' to try the rates with every method; 'sums' to try them with the sums
            alone: the others have the rate of the best sum then.
    """

    methods: tuple[Method, ...]
    seeds: tuple[int, ...] = (0, 1, 2)
    config: str = DEFAULT_CONFIG
    work_dir: str = "work_dirs/compare"
    jobs: int = 1
    options: tuple[str, ...] = ()
    command: str = "python tools/compare.py"
    rates: tuple[float, ...] = ()
    ledger: LedgerOptions = field(default_factory=LedgerOptions)
    rates_for: str = "all"


@dataclass(frozen=True)
class ComparisonFindings:
    """What the scores say.

    Args:
        scores: all of them, in the order of the trainings.
        compared: those that are compared, each method's at its rate and one a seed.
        tuned: the tuned sum's label.
        rows: per method, what :func:`summarize` says of it.
        chosen: by method, the learning rate chosen for it; empty without a sweep.
        edges: by method, whether the chosen rate is the 'smallest' or the 'largest' tried.
        weights_at_edge: see :func:`~lossweave.studies.compare.rates.weights_at_edge`.
        many: what the differences of all methods say together.
        tried: by method, how many settings of it were tried before it was compared.
        alike: see :func:`alike`.
    """

    scores: tuple[Score, ...]
    compared: tuple[Score, ...]
    tuned: str
    rows: tuple[dict[str, Any], ...]
    chosen: dict[str, float]
    edges: dict[str, str]
    weights_at_edge: bool | None
    many: Many
    tried: dict[str, str]
    alike: dict[str, str] = field(default_factory=dict)

    @property
    def differences(self) -> dict[str, list[float]]:
        """By method beside the tuned sum, those to it, one a pair of seeds."""
        return {r["method"]: r["differences"] for r in self.rows if r["method"] != self.tuned}

    def told(self, sign: int) -> list[str]:
        """The methods above (1) or below (-1) the tuned sum, after the correction."""
        return self.many.told(self.differences, sign)


def find(
    methods: Sequence[Method], scores: Sequence[Score], chosen: Mapping[str, float]
) -> ComparisonFindings:
    """Everything that a comparison's report says, from its scores.

    Args:
        methods: those that were compared.
        scores: of all trainings.
        chosen: by method, the learning rate that
            :func:`~lossweave.studies.compare.rates.best_rates` chose; empty without a sweep.
    """
    compared = at_rates(scores, chosen) if chosen else list(scores)
    tuned, rows = summarize(compared)
    once = counted(compared, tuned)
    return ComparisonFindings(
        scores=tuple(scores),
        compared=once,
        tuned=tuned,
        rows=tuple(rows),
        chosen=dict(chosen),
        edges=rate_edges(scores, chosen),
        weights_at_edge=weights_at_edge(methods, tuned),
        many=against_one({r["method"]: r["differences"] for r in rows if r["method"] != tuned}),
        tried=_tried(scores, tuned),
        alike=alike(once),
    )


def _tried(scores: Sequence[Score], tuned: str) -> dict[str, str]:
    """By method, what was tuned, in words; trainings of the first seed are the tuning."""
    sums = {score.method for score in scores if score.method.split()[0] == "Sum"}
    first = scores[0].seed
    words = {}
    for label in dict.fromkeys(score.method for score in scores):
        rates = {s.rate for s in scores if s.method == label and s.seed == first}
        parts = [f"{len(sums)} weightings"] * (label == tuned and len(sums) > 1)
        parts += [f"{len(rates)} rates"] * (len(rates) > 1)
        words[label] = ", ".join(parts) or "-"
    return words


def summarize(scores: Sequence[Score]) -> tuple[str, list[dict[str, Any]]]:
    """The tuned sum's label, and per method what the seeds say about it.

    The tuned sum is the ``Sum`` with the best mean AP on the VALIDATION split, over the seeds
    that all sums have; differences to it are on the TEST split, paired by seed. A pair is of one
    place, that is of the same code and machine, or of two between which a repeated training of
    one of its methods gave the same numbers (:func:`repeated`); of a seed that has none,
    ``unpaired`` says so.

    Raises:
        LossweaveError: there is no sum.
    """
    by_method = _by_method(scores)
    sums = [label for label in by_method if label.split()[0] == "Sum"]
    if not sums:
        raise LossweaveError("a comparison lacks the results of a Sum to compare with")
    shared = set.intersection(*(set(by_method[label]) for label in sums))
    tuned = max(
        sums,
        key=lambda label: np.mean(
            [s[0].val for seed, s in by_method[label].items() if seed in shared or not shared]
        ),
    )
    pairs = _pairs(scores, tuned)
    rows = []
    for label, found in pairs.items():
        paired = [(own, other) for _, (own, other) in sorted(found.items()) if other is not None]
        mean, half = paired_interval([one.test - other.test for one, other in paired])
        chosen = [own for own, _ in found.values()]
        tests = [s.test for s in chosen]
        rows.append(
            dict(
                method=label,
                rate=chosen[0].rate,
                seeds=len(chosen),
                val=float(np.mean([s.val for s in chosen])),
                test=float(np.mean(tests)),
                sd=float(np.std(tests, ddof=1)) if len(tests) > 1 else float("nan"),
                test50=float(np.mean([s.test50 for s in chosen])),
                difference=mean,
                half_width=half,
                differences=[one.test - other.test for one, other in paired],
                unpaired=sorted(
                    seed
                    for seed, (_, other) in found.items()
                    if other is None and seed in by_method[tuned]
                ),
            )
        )
    return tuned, rows


def counted(scores: Sequence[Score], tuned: str) -> tuple[Score, ...]:
    """One score a method and seed: where a training was repeated, the one that is paired.

    Args:
        scores: each method's at its rate, of all places.
        tuned: the method that the others are paired with.

    Example:
        >>> once = Score("Sum", 0, 0.3, 0.25, 0.6, place="before")
        >>> again = Score("Sum", 0, 0.3, 0.25, 0.6, place="after")
        >>> len(counted([once, again], "Sum"))
        1
    """
    return tuple(own for found in _pairs(scores, tuned).values() for own, _ in found.values())


def alike(scores: Sequence[Score]) -> dict[str, str]:
    """The methods whose trainings ended as an earlier one's do, and which that is.

    That is one training under two names: a weight that adapts once an epoch says nothing in a
    training of one epoch.

    Args:
        scores: one a method and seed. Two seeds must agree in all scores, and none differ.

    Example:
        >>> sums = [Score("Sum", seed, 0.3 + seed / 9, 0.25, 0.6) for seed in range(2)]
        >>> alike([*sums, *(Score("DWA", s.seed, s.val, s.test, s.test50) for s in sums)])
        {'DWA': 'Sum'}
    """
    ends = {
        label: {seed: (s[0].val, s[0].test, s[0].test50) for seed, s in found.items()}
        for label, found in _by_method(scores).items()
    }
    found: dict[str, str] = {}
    for one, other in combinations(ends, 2):
        shared = set(ends[one]) & set(ends[other])
        if len(shared) > 1 and all(ends[one][seed] == ends[other][seed] for seed in shared):
            found.setdefault(other, one)
    return found


def repeated(scores: Sequence[Score]) -> set[tuple[str, frozenset[str]]]:
    """The methods and pairs of places at which all that was trained twice gave the same numbers.

    A commit that changes nothing about a method changes no digit of its trainings, so a training
    that is repeated under the new code tells whether the method's earlier results stand for it.

    Args:
        scores: of all places.

    Example:
        >>> one = Score("Sum", 0, 0.3, 0.25, 0.6, place="before")
        >>> again = Score("Sum", 0, 0.3, 0.25, 0.6, place="after")
        >>> other = Score("DWA", 0, 0.3, 0.25, 0.6, place="after")
        >>> [(method, sorted(places)) for method, places in repeated([one, again, other])]
        [('Sum', ['after', 'before'])]
    """
    trainings: dict[tuple[str, int, float | None], list[Score]] = {}
    for score in scores:
        trainings.setdefault((score.method, score.seed, score.rate), []).append(score)
    agreeing: dict[tuple[str, frozenset[str]], bool] = {}
    for (method, _, _), found in trainings.items():
        for a, b in combinations(found, 2):
            if a.place != b.place:
                key = (method, frozenset((a.place, b.place)))
                same = (a.val, a.test, a.test50) == (b.val, b.test, b.test50)
                agreeing[key] = agreeing.get(key, True) and same
    return {key for key, same in agreeing.items() if same}


def _pairs(
    scores: Sequence[Score], tuned: str
) -> dict[str, dict[int, tuple[Score, Score | None]]]:
    """By method and seed, the score that counts and the tuned method's that it is paired with."""
    by_method = _by_method(scores)
    reference, same = by_method[tuned], repeated(scores)
    return {
        label: {
            seed: _pair(own, reference.get(seed, ()), same) or (own[0], None)
            for seed, own in found.items()
        }
        for label, found in by_method.items()
    }


def _by_method(scores: Sequence[Score]) -> dict[str, dict[int, list[Score]]]:
    by_method: dict[str, dict[int, list[Score]]] = {}
    for score in scores:
        by_method.setdefault(score.method, {}).setdefault(score.seed, []).append(score)
    return by_method


def _pair(
    found: Sequence[Score],
    reference: Sequence[Score],
    same: set[tuple[str, frozenset[str]]],
) -> tuple[Score, Score] | None:
    """The first two of one place, else of places that are the same for one of the methods."""
    pairs = [(a, b) for a in found for b in reference]
    one = next((pair for pair in pairs if pair[0].place == pair[1].place), None)
    if one is not None:
        return one
    for a, b in pairs:
        places = frozenset((a.place, b.place))
        if (a.method, places) in same or (b.method, places) in same:
            return a, b
    return None
