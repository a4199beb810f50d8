"""What a comparison asks for, and what its scores say: computed once, for report and record."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lossweave.errors import LossweaveError
from lossweave.studies.compare.rates import at_rates, rate_edges, weights_at_edge
from lossweave.studies.ledger.book import LedgerOptions
from lossweave.studies.report.paired import paired_interval
from lossweave.studies.runs.demo_data import DEFAULT_CONFIG
from lossweave.studies.runs.method import Method, Score

__all__ = ["Comparison", "ComparisonFindings", "find", "summarize"]


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
        compared: those that are compared, each method's at its rate.
        tuned: the tuned sum's label.
        rows: per method, what :func:`summarize` says of it.
        chosen: by method, the learning rate chosen for it; empty without a sweep.
        edges: by method, whether the chosen rate is the 'smallest' or the 'largest' tried.
        weights_at_edge: see :func:`~lossweave.studies.compare.rates.weights_at_edge`.
    """

    scores: tuple[Score, ...]
    compared: tuple[Score, ...]
    tuned: str
    rows: tuple[dict[str, Any], ...]
    chosen: dict[str, float]
    edges: dict[str, str]
    weights_at_edge: bool | None


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
    return ComparisonFindings(
        scores=tuple(scores),
        compared=tuple(compared),
        tuned=tuned,
        rows=tuple(rows),
        chosen=dict(chosen),
        edges=rate_edges(scores, chosen),
        weights_at_edge=weights_at_edge(methods, tuned),
    )


def summarize(scores: Sequence[Score]) -> tuple[str, list[dict[str, Any]]]:
    """The tuned sum's label, and per method what the seeds say about it.

    The tuned sum is the ``Sum`` with the best mean AP on the VALIDATION split; differences to
    it are on the TEST split, paired by seed. A pair is of one place, that is of the same code
    and machine; of a seed that has none, ``unpaired`` says so.

    Raises:
        LossweaveError: there is no sum.
    """
    by_method: dict[str, dict[int, list[Score]]] = {}
    for score in scores:
        by_method.setdefault(score.method, {}).setdefault(score.seed, []).append(score)
    sums = [label for label in by_method if label.split()[0] == "Sum"]
    if not sums:
        raise LossweaveError("a comparison lacks the results of a Sum to compare with")
    tuned = max(sums, key=lambda label: np.mean([s[0].val for s in by_method[label].values()]))
    reference = by_method[tuned]
    rows = []
    for label, found in by_method.items():
        pairs = {seed: _pair(found[seed], reference.get(seed, ())) for seed in found}
        paired = [pair for _, pair in sorted(pairs.items()) if pair]
        mean, half = paired_interval([one.test - other.test for one, other in paired])
        # Of several scores of a seed, the one that is paired.
        chosen = [pair[0] if pair else found[seed][0] for seed, pair in pairs.items()]
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
                unpaired=sorted(s for s in pairs if pairs[s] is None and s in reference),
            )
        )
    return tuned, rows


def _pair(found: Sequence[Score], reference: Sequence[Score]) -> tuple[Score, Score] | None:
    """The first two of one place."""
    return next(((a, b) for a in found for b in reference if a.place == b.place), None)
