"""What the study of turns asks for, what a training leaves, and what the seeds say."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import log

import numpy as np

from lossweave.errors import LossweaveError
from lossweave.studies.ledger.book import LedgerOptions
from lossweave.studies.report.paired import Spread, spread
from lossweave.studies.runs.demo_data import DEFAULT_CONFIG
from lossweave.studies.runs.method import Method, Score
from lossweave.studies.runs.record import RunRecord

__all__ = [
    "Answers",
    "Outcome",
    "Turns",
    "answer",
    "distances",
    "relative_distance",
    "standard_methods",
    "stretch_changes",
]

#: The share of the training whose mean loss is called the loss at its end.
_END = 0.1


@dataclass(frozen=True)
class Turns:
    """What to train.

    Args:
        seeds: one training per method and seed; one a seed is no evidence.
        lengths: of the turns, in optimizer updates.
        also: further methods, e.g. ``'AutoLoss'``, as for ``tools/compare.py``.
        config: an iteration-based config with COCO evaluation on two splits, terms cls and loc.
        work_dir: where everything is written; finished trainings are kept.
        jobs: trainings at a time, each with an equal share of the cores.
        options: further ``--cfg-options``, the same for all.
        command: the command that asked for it, for the report.
        ledger: where results are, and what of them counts.
    """

    seeds: tuple[int, ...] = (0, 1, 2)
    lengths: tuple[int, ...] = (1, 10, 100)
    also: tuple[str, ...] = ()
    config: str = DEFAULT_CONFIG
    work_dir: str = "work_dirs/turns"
    jobs: int = 1
    options: tuple[str, ...] = ()
    command: str = "python tools/turns.py"
    ledger: LedgerOptions = field(default_factory=LedgerOptions)

    @property
    def methods(self) -> dict[str, Method]:
        """The methods by their part in the study; further ones by their own label."""
        others = [Method.parse(text) for text in self.also]
        return {**standard_methods(self.lengths), **{other.label: other for other in others}}


def standard_methods(lengths: Sequence[int]) -> dict[str, Method]:
    """The sums, the turns and the single tasks.

    Example:
        >>> for part, method in standard_methods([1, 10]).items():
        ...     print(part, "=", method.label)
        sum = Sum
        half = Sum weights=[0.5,0.5]
        turns of 1 = Alternating schedule=[(cls,1),(loc,1)]
        turns of 10 = Alternating schedule=[(cls,10),(loc,10)]
        cls alone = Sum weights=[1,0]
        loc alone = Sum weights=[0,1]
    """
    turns = {
        f"turns of {length}": Method("Alternating", (f"schedule=[(cls,{length}),(loc,{length})]",))
        for length in lengths
    }
    return {
        "sum": Method("Sum"),
        "half": Method("Sum", ("weights=[0.5,0.5]",)),
        **turns,
        "cls alone": Method("Sum", ("weights=[1,0]",)),
        "loc alone": Method("Sum", ("weights=[0,1]",)),
    }


@dataclass(frozen=True)
class Outcome:
    """What one training left.

    Args:
        part: the method's part in the study, a key of :attr:`Turns.methods`.
        score: AP on both splits.
        held_out: every term's mean loss on the test split.
        run: its curves.
        apart: by iteration, the relative distance of the weights to those of the half-weighted
            sum with the same seed; see :func:`distances`.
    """

    part: str
    score: Score
    held_out: dict[str, float]
    run: RunRecord
    apart: dict[int, float] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """Which code trained on what machine. Trainings of two places are no pair."""
        return self.score.place

    def end_loss(self, term: str) -> float:
        """Mean of a term's training loss over the last tenth of the iterations."""
        series = self.run.terms[term].value
        begin = (1 - _END) * self.run.iterations
        last = [v for s, v in zip(series.steps, series.values, strict=True) if s > begin]
        return float(np.mean(last)) if last else float("nan")


@dataclass(frozen=True)
class Answers:
    """The three questions' numbers, each with its interval over the seeds.

    Args:
        first_order: two plain steps, by data and learning rate; see
            :func:`lossweave.studies.turns.first_order.first_order`.
        power: by data, the power of the learning rate by which that distance falls between the
            two smallest rates; 1 is in proportion to it, 0 not at all.
        half: turns of the shortest length minus the half-weighted sum: AP and losses.
        to_sum: every other part of the study minus the plain sum: AP and losses.
        further: likewise every further method minus turns of the shortest length.
        apart: relative distance of the weights to those of the half-weighted sum, by part of
            the study and iteration, mean over the seeds.
        curves: mean over the training of \\|log(L / L_half)\\| per part and term.
        longer: longer turns minus the shortest ones, by part: AP and losses.
        idle: mean change of log L of a term over a turn of the other one, by part and term;
            only where turns are longer than the log's interval.
        own: the same over its own turn.
        alone: by term: the term's held-out loss trained with the other one (plain sum), minus
            trained alone; below 0 the other task helped.
    """

    first_order: dict[str, dict[str, Spread]]
    power: dict[str, Spread]
    half: dict[str, Spread]
    to_sum: dict[str, dict[str, Spread]]
    further: dict[str, dict[str, Spread]]
    apart: dict[str, dict[int, float]]
    curves: dict[str, dict[str, Spread]]
    longer: dict[str, dict[str, Spread]]
    idle: dict[str, dict[str, Spread]]
    own: dict[str, dict[str, Spread]]
    alone: dict[str, Spread]


def answer(
    outcomes: Sequence[Outcome],
    lengths: Sequence[int],
    steps: Sequence[Mapping[str, Mapping[str, float]]] = (),
) -> Answers:
    """What the outcomes say about the three questions.

    Args:
        outcomes: the trainings; only seeds that both sides of a difference have enter it.
        lengths: of the turns.
        steps: of every seed, what :func:`lossweave.studies.turns.first_order.first_order` found.

    Raises:
        LossweaveError: a part of the study has no training.
    """
    by_part: dict[str, dict[int, Outcome]] = {}
    for outcome in outcomes:
        by_part.setdefault(outcome.part, {}).setdefault(outcome.score.seed, outcome)
    terms = list(outcomes[0].held_out) if outcomes else []
    parts = ["sum", "half", *(f"turns of {n}" for n in lengths), *(f"{t} alone" for t in terms)]
    if missing := [part for part in parts if part not in by_part]:
        raise LossweaveError(f"the study of turns lacks the results of {', '.join(missing)}")
    in_turns = [f"turns of {length}" for length in sorted(lengths)]
    shortest = in_turns[0]
    half = by_part["half"]
    others = {part: found for part, found in by_part.items() if part != "half"}
    return Answers(
        first_order={
            data: {rate: spread([step[data][rate] for step in steps]) for rate in rates}
            for data, rates in (steps[0] if steps else {}).items()
        },
        power={
            data: spread([_power(step[data]) for step in steps])
            for data in (steps[0] if steps else {})
        },
        half=_minus(by_part[shortest], half, terms),
        to_sum={
            part: _minus(found, by_part["sum"], terms)
            for part, found in by_part.items()
            if part != "sum"
        },
        further={
            part: _minus(found, by_part[shortest], terms)
            for part, found in by_part.items()
            if part not in standard_methods(lengths)
        },
        apart={part: _mean_apart(found) for part, found in others.items()},
        curves={part: _log_gaps(found, half, terms) for part, found in others.items()},
        longer={
            part: _minus(by_part[part], by_part[shortest], terms)
            for part in in_turns
            if part != shortest
        },
        idle={part: _over_stretches(by_part[part], terms, 0.0) for part in in_turns},
        own={part: _over_stretches(by_part[part], terms, 1.0) for part in in_turns},
        alone={
            term: _over_pairs(by_part["sum"], by_part[f"{term} alone"], partial(_held_out, term))
            for term in terms
        },
    )  # fmt: skip


def relative_distance(a: np.ndarray, b: np.ndarray, start: np.ndarray) -> float:
    r"""How far apart two trainings are, in units of how far the second has come.

    :math:`\|a - b\| / \|b - start\|`; 0 for the same weights, about :math:`\sqrt 2` for two
    that went equally far in unrelated directions.

    Example:
        >>> zero, one = np.zeros(2), np.array([1.0, 0.0])
        >>> relative_distance(one, one, zero), relative_distance(np.array([0.0, 1.0]), one, zero)
        (0.0, 1.4142135623730951)
    """
    return float(np.linalg.norm(a - b) / np.linalg.norm(b - start))


def distances(a: Mapping[int, np.ndarray], b: Mapping[int, np.ndarray]) -> dict[int, float]:
    """How far apart two trainings are, by iteration; see :func:`relative_distance`.

    Args:
        a: the sampled weights by iteration, as :class:`lossweave.mmdet.WeightSampleHook` writes
            them.
        b: those of the training whose way is the unit; its iteration 0 is the start of both.

    Example:
        >>> zero, one = np.zeros(2), np.array([1.0, 0.0])
        >>> distances({0: zero, 20: -one}, {0: zero, 20: one})
        {20: 2.0}
    """
    start = b.get(0)
    if start is None:
        return {}
    shared = sorted({*a} & {*b} - {0})
    return {iteration: relative_distance(a[iteration], b[iteration], start) for iteration in shared}


def stretch_changes(
    values: Sequence[float], weights: Sequence[float], weight: float
) -> list[float]:
    """Change of log L over each stretch in which a term's weight stayed the same.

    From the stretch's first window of the log to its last. With weight 0 this is what the
    other term's updates did to this one; with weight 1, what its own turn did.

    Args:
        values: the term's mean loss in each window of the log.
        weights: its mean weight in each window; one in which the turn changed is of no stretch.
        weight: the weight of the stretches.

    Example:
        >>> stretch_changes([1.0, 2.0, 1.0, 3.0], [1, 0, 0, 1], weight=0)
        [-0.6931471805599453]
    """
    changes, begin = [], None
    for place, found in enumerate([*weights, float("nan")]):
        if found == weight and begin is None:
            begin = place
        elif found != weight and begin is not None:
            first, last = values[begin], values[place - 1]
            if place - 1 > begin and first > 0 and last > 0:
                changes.append(log(last / first))
            begin = None
    return changes


def _power(distance: Mapping[str, float]) -> float:
    """The slope of the logarithm over that of the rate, at its two smallest."""
    rates = sorted(distance, key=float)[:2]
    ends = [distance[rate] for rate in rates]
    if len(rates) < 2 or min(ends) <= 0:
        return float("nan")
    return log(ends[1] / ends[0]) / log(float(rates[1]) / float(rates[0]))


def _pairs(a: Mapping[int, Outcome], b: Mapping[int, Outcome]) -> list[tuple[Outcome, Outcome]]:
    """Of the seeds that both have, the trainings of the same code and machine."""
    both = [(a[seed], b[seed]) for seed in sorted({*a} & {*b})]
    return [(one, other) for one, other in both if one.place == other.place]


def _over_pairs(
    a: Mapping[int, Outcome], b: Mapping[int, Outcome], read: Callable[[Outcome], float]
) -> Spread:
    return spread([read(one) - read(other) for one, other in _pairs(a, b)])


def _held_out(term: str, outcome: Outcome) -> float:
    return outcome.held_out[term]


def _minus(
    a: Mapping[int, Outcome], b: Mapping[int, Outcome], terms: Sequence[str]
) -> dict[str, Spread]:
    return {
        "AP": _over_pairs(a, b, lambda o: o.score.test),
        "AP50": _over_pairs(a, b, lambda o: o.score.test50),
        **{term: _over_pairs(a, b, partial(_held_out, term)) for term in terms},
    }


def _mean_apart(found: Mapping[int, Outcome]) -> dict[int, float]:
    by_iteration: dict[int, list[float]] = {}
    for _, outcome in sorted(found.items()):
        for iteration, distance in outcome.apart.items():
            by_iteration.setdefault(iteration, []).append(distance)
    return {iteration: float(np.mean(values)) for iteration, values in by_iteration.items()}


def _log_gaps(
    a: Mapping[int, Outcome], b: Mapping[int, Outcome], terms: Sequence[str]
) -> dict[str, Spread]:
    pairs = _pairs(a, b)
    return {term: spread([_log_gap(one, other, term) for one, other in pairs]) for term in terms}


def _log_gap(a: Outcome, b: Outcome, term: str) -> float:
    left, right = a.run.terms[term].value, b.run.terms[term].value
    known = dict(zip(right.steps, right.values, strict=True))
    gaps = [
        abs(log(value / known[step]))
        for step, value in zip(left.steps, left.values, strict=True)
        if value > 0 and known.get(step, 0) > 0
    ]
    return float(np.mean(gaps)) if gaps else float("nan")


def _over_stretches(
    found: Mapping[int, Outcome], terms: Sequence[str], weight: float
) -> dict[str, Spread]:
    def one(outcome: Outcome, term: str) -> float:
        history = outcome.run.terms[term]
        changes = stretch_changes(history.value.values, history.weight.values, weight)
        return float(np.mean(changes)) if changes else float("nan")

    return {term: spread([one(o, term) for o in found.values()]) for term in terms}
