"""What is found of a combiner, as numbers with stated thresholds, and its verdict in words."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lossweave.studies.simulate.fields import Field, Point, settled
from lossweave.studies.simulate.paths import FAR, Path
from lossweave.studies.simulate.problems import Problem

__all__ = [
    "THRESHOLDS",
    "Answer",
    "Outcome",
    "answer",
    "outcome",
    "powers",
    "silent",
    "verdict",
    "words_of",
]

#: What the words mean. Lengths are in those of the Pareto set, gaps in the losses' ranges on it.
THRESHOLDS = {
    "exploded": FAR,  # so far away from the start, or not finite
    "reached": 0.01,  # both losses could still fall by less than this
    "stalled": 1e-3,  # not reached, and a shorter way than this in the last tenth of the updates
    "end": 0.05,  # so near to an end of the Pareto set is at that end
    "starved": 0.01,  # a weight is lost where another loss near 0 leaves less of it
    "silent": 1e-6,  # a step shorter than this part of the smaller gradient is none
    "explodes": 1.5,  # the step grows with at least this power of the losses' common scale
    "near": 0.2,  # an exponent this near to a whole number counts as it
}
_SMALL = 1e-3  # the loss near 0 beside one of 1


@dataclass(frozen=True)
class Outcome:
    """How one training ended.

    Args:
        problem: its name.
        optimizer: 'descent' or 'Adam'.
        scale: the second loss's, relative to the first's.
        start: which of the problem's starts.
        result: 'exploded', 'reached', 'stalled' or 'moving'.
        gap: the share of their ranges by which both losses could still fall.
        position: where beside the Pareto set: 0 at the first loss's best, 1 at the second's.
        updates: that were made.
    """

    problem: str
    optimizer: str
    scale: float
    start: int
    result: str
    gap: float
    position: float
    updates: int


@dataclass(frozen=True)
class Answer:
    """What is found of one combiner.

    Args:
        size_power: c where the step grows as the c-th power of the losses' common scale.
        share_power: r where the second loss's part in the gradient, relative to the first's,
            grows as the r-th power of their ratio; inf where one is left out.
        left: what a loss of 1 keeps of its weight when the other falls from 1 to 0.001.
        silent: the smallest ratio of the losses at which there is no step at all; None where
            there is none such.
        moves: whether its weights change while the losses stand still.
        failed: whether its solver found nothing somewhere.
        outcomes: of its trainings.
    """

    size_power: float
    share_power: float
    left: float
    silent: float | None
    moves: bool
    failed: bool
    outcomes: tuple[Outcome, ...]

    def as_data(self) -> dict[str, Any]:
        """As JSON takes it: numbers that are not finite become words."""
        found = asdict(self)
        for name in ("size_power", "share_power", "left"):
            value = found[name]
            found[name] = round(value, 4) if math.isfinite(value) else str(value)
        found["outcomes"] = list(found["outcomes"])
        for row in found["outcomes"]:
            row["gap"] = round(row["gap"], 4) if row["gap"] < 1e6 else None
            row["position"] = round(row["position"], 3)
        return found


def outcome(
    way: Path, problem: Problem, optimizer: str, scale: float, start: int
) -> Outcome:
    """How a training ended, by :data:`THRESHOLDS`.

    Args:
        way: where it went.
        problem: on which losses.
        optimizer: with which optimizer.
        scale: with which ratio of the losses.
        start: from which of the problem's starts.
    """
    if all(map(math.isfinite, way.losses[-1])):
        gap, position = problem.front.gap(way.losses[-1])
    else:
        gap, position = math.inf, 0.5
    if way.exploded:
        result = "exploded"
    elif gap <= THRESHOLDS["reached"]:
        result = "reached"
    elif way.late < THRESHOLDS["stalled"] * problem.front.length:
        result = "stalled"
    else:
        result = "moving"
    return Outcome(problem.name, optimizer, scale, start, result, gap, position, way.updates)


def powers(combiner: Any, updates: int) -> tuple[float, float, float]:
    """The numbers ``size_power``, ``share_power`` and ``left`` of :class:`Answer`.

    Args:
        combiner: what :func:`~lossweave.combination.build_combination` takes.
        updates: of standing losses, where its weights move.

    Example:
        >>> [round(x, 2) for x in powers("SquaredSum", 1)]
        [2.0, 1.0, 0.5]
        >>> [round(x, 3) for x in powers("Product", 1)]
        [2.0, 0.0, 0.001]
    """

    def at(first: float, second: float) -> Point:
        return settled(combiner, first, second, updates)

    one, many = at(1.0, 1.0), at(100.0, 100.0)
    size = _power(many.size, one.size, 100.0)
    larger, smaller = at(1.0, 10.0), at(10.0, 1.0)
    shares = [abs(p.second) * b / max(abs(p.first) * a, 1e-300)
              for p, a, b in ((larger, 1.0, 10.0), (smaller, 10.0, 1.0))]  # fmt: skip
    share = _power(shares[0], shares[1], 100.0)
    left = min(
        abs(at(_SMALL, 1.0).second) / max(abs(one.second), 1e-12),
        abs(at(1.0, _SMALL).first) / max(abs(one.first), 1e-12),
    )
    return size, share, left


def _power(value: float, base: float, ratio: float) -> float:
    if not (1e-12 < value < 1e12 and 1e-12 < base < 1e12):
        return math.copysign(math.inf, value - base)
    return math.log(value / base) / math.log(ratio)


def silent(plane: Field) -> float | None:
    """The smallest ratio of two losses in a field at which there is no step; None if none.

    Args:
        plane: the field.
    """
    found = [
        10 ** abs(first - second)
        for second, row in zip(plane.exponents, plane.points, strict=True)
        for first, point in zip(plane.exponents, row, strict=True)
        if point.size < THRESHOLDS["silent"] * 10 ** min(first, second)
    ]
    return float(f"{min(found):.3g}") if found else None


def answer(
    combiner: Any,
    updates: int,
    plane: Field,
    outcomes: Sequence[Outcome],
    failed: Callable[[], bool] = lambda: False,
) -> Answer:
    """All that is found of a combiner.

    Args:
        combiner: what :func:`~lossweave.combination.build_combination` takes.
        updates: of standing losses, where its weights move.
        plane: its field.
        outcomes: of its trainings.
        failed: asked at the end, whether its solver found nothing somewhere.
    """
    size, share, left = powers(combiner, updates if plane.moves else 1)
    return Answer(size, share, left, silent(plane), plane.moves, failed(), tuple(outcomes))


def words_of(found: Mapping[str, Any], updates: int) -> str:
    """A combiner's findings in words.

    Args:
        found: as :meth:`Answer.as_data` has them.
        updates: after which weights were read that move.

    Example:
        >>> from lossweave.studies.simulate.fields import field
        >>> found = answer("Product", 1, field("Product", 1, exponents=(0.0, 1.0)), ())
        >>> words_of(found.as_data(), 1).split(",")[0]
        "The step grows as the square of the losses' common scale"
    """
    numbers = [float(found[name]) for name in ("size_power", "share_power", "left")]
    outcomes = [Outcome(**row) for row in found["outcomes"]]
    words = verdict(numbers[0], numbers[1], numbers[2], found["silent"], outcomes)
    if found["moves"]:
        words = (
            "Its weights move while the losses stand still; what follows is their mean after "
            f"{updates} updates. {words}"
        )
    if found["failed"]:
        words += " Its solver fails in places; equal weights are used there."
    return words


def verdict(
    size_power: float,
    share_power: float,
    left: float,
    still: float | None,
    outcomes: Sequence[Outcome],
) -> str:
    """A combiner's numbers in words.

    Example:
        >>> verdict(2.0, 0.0, 0.001, None, [])
        "The step grows as the square of the losses' common scale, so it explodes where they are \
large. Both losses have the same part in the gradient, whatever their ratio. It dies: a loss \
near 0 takes the other one's gradient away, and 0.1 % of its weight is left."
    """
    parts = [_size_words(size_power), _share_words(share_power)]
    if left < THRESHOLDS["starved"]:
        kept = "nothing of its weight" if left < 1e-6 else f"{100 * left:.2g} % of its weight"
        parts.append(
            f"It dies: a loss near 0 takes the other one's gradient away, and {kept} is left."
        )
    if still is not None:
        parts.append(
            f"There is no step at all where the losses are {still:.0f} times apart or more."
            if still > 1
            else "There is no step at all."
        )
    if outcomes:
        parts += [_result_words(outcomes), *_place_words(outcomes)]
    return " ".join(parts)


def _size_words(power: float) -> str:
    near = THRESHOLDS["near"]
    if abs(power) < near:
        return "The step does not depend on the losses' common scale."
    if abs(power - 1) < near:
        return "The step grows in proportion to the losses' common scale, as a single loss's does."
    if power >= THRESHOLDS["explodes"]:
        which = "square" if abs(power - 2) < near else f"{power:.1f}th power"
        return (
            f"The step grows as the {which} of the losses' common scale, so it explodes where "
            "they are large."
        )
    if power < 0:
        return f"The step shrinks where the losses grow (power {power:.1f} of their scale)."
    return f"The step grows as the power {power:.1f} of the losses' common scale."


def _share_words(power: float) -> str:
    near = THRESHOLDS["near"]
    if power > 3:
        return "The larger loss has the gradient to itself."
    if power < -3:
        return "The smaller loss has the gradient to itself."
    if abs(power) < near:
        return "Both losses have the same part in the gradient, whatever their ratio."
    if abs(power - 1) < near:
        return "A loss's part in the gradient is in proportion to its size: the larger one rules."
    side = "larger" if power > 0 else "smaller"
    much = "more than in proportion to" if abs(power) > 1 else "by less than"
    return (
        f"The {side} loss has the larger part in the gradient, {much} their ratio "
        f"(power {power:.1f})."
    )


def _result_words(outcomes: Sequence[Outcome]) -> str:
    clauses = []
    for optimizer in dict.fromkeys(o.optimizer for o in outcomes):
        counts = Counter(o.result for o in outcomes if o.optimizer == optimizer)
        total = sum(counts.values())
        name = "plain descent" if optimizer == "descent" else optimizer
        lost = {o.scale for o in outcomes if (o.optimizer, o.result) == (optimizer, "exploded")}
        ratios = ", ".join(f"{scale:g}" for scale in sorted(lost))
        where = f"exploded at {'the ratios' if len(lost) > 1 else 'ratio'} {ratios}"
        clause = f"with {name} {counts['reached']} of {total} trainings reached the Pareto set"
        others = [
            f"{counts[result]} {words}"
            for result, words in (
                ("exploded", where), ("stalled", "stalled"), ("moving", "not there yet")
            )
            if counts[result]
        ]  # fmt: skip
        clauses.append(clause + (f" ({'; '.join(others)})" if others else ""))
    text = "; ".join(clauses) + "."
    return text[0].upper() + text[1:]


def _place_words(outcomes: Sequence[Outcome]) -> list[str]:
    """Where on the Pareto set the trainings end that reach it, by the losses' ratio."""
    places: dict[float, list[float]] = {}
    for o in outcomes:
        if o.result == "reached":
            places.setdefault(o.scale, []).append(o.position)
    if not places:
        return []
    means = {scale: sum(found) / len(found) for scale, found in sorted(places.items())}
    said = ", ".join(f"{mean:.2f} at {scale:g}" for scale, mean in means.items())
    ends = _ends(places)
    return [f"Where on it (0 is the first loss's best, 1 the second's), by ratio: {said}{ends}."]


def _ends(places: Mapping[float, Sequence[float]]) -> str:
    every = [position for found in places.values() for position in found]
    at_end = sum(min(p, 1 - p) < THRESHOLDS["end"] for p in every)
    return f"; {at_end} of {len(every)} at an end, where one loss alone was trained"
