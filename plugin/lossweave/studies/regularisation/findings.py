"""What penalties made of loss, weights and AP, computed once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lossweave.studies.arms.findings import Group, Quantity, apart, by_seed, grouped
from lossweave.studies.ledger.result import Result
from lossweave.studies.regularisation.study import KINDS
from lossweave.studies.regularisation.weights import NEAR_ZERO
from lossweave.studies.report.curvature import corner_of
from lossweave.studies.report.many import pooled_sd
from lossweave.studies.report.paired import Spread, spread

__all__ = ["SPARSE", "Curve", "Point", "RegularisationFindings", "find_regularisation", "mean_of"]

#: The limit below which a weight counts as zero in what is said of sparsity.
SPARSE = f"below {NEAR_ZERO[1]:g}"


@dataclass(frozen=True)
class Point:
    """A strength of a kind.

    Args:
        strength: lambda; 0 without any.
        data: the data's losses at the end, a number per training.
        size: the sum of |w| for l1, else half that of w squared, likewise.
        ap: on the test split, likewise.
        val: on the validation split, likewise.
        sparse: the share of weights near zero, likewise.
        norm: half the sum of squares, likewise.
        gain: test AP minus that without a penalty, paired by seed and place.
    """

    strength: float
    data: tuple[float, ...]
    size: tuple[float, ...]
    ap: tuple[float, ...]
    val: tuple[float, ...]
    sparse: tuple[float, ...]
    norm: tuple[float, ...]
    gain: Spread


@dataclass(frozen=True)
class Curve:
    """A kind with all its strengths.

    Args:
        kind: 'l1', 'l2' or 'decay'.
        points: from none to the strongest.
        corner: the strength at the corner of the curve through the seeds' means; None without.
        corners: that of every seed's own curve, where it has one.
        best: the strength with the best mean AP on the validation split; 0 is one of them.
        lost: test AP at the corner minus that at the best strength, paired.
    """

    kind: str
    points: tuple[Point, ...]
    corner: float | None
    corners: tuple[float, ...]
    best: float
    lost: Spread


@dataclass(frozen=True)
class RegularisationFindings:
    """What the trainings say.

    Args:
        curves: by kind.
        sd: of a training's test AP over the seeds, pooled over all strengths; nan with one seed.
        modules: whose weights shrink, as many as there are.
    """

    curves: Mapping[str, Curve]
    sd: float
    modules: int


def find_regularisation(results: Sequence[Result]) -> RegularisationFindings:
    """What the trainings of a ledger say."""
    groups: dict[tuple, Group] = {**grouped(results, "kind", "lambda")}
    none = groups.get(("none", 0.0), {})
    curves = {}
    for kind in KINDS:
        own = {value: group for (k, value), group in sorted(groups.items()) if k == kind}
        if own:
            curves[kind] = _curve(kind, {0.0: none, **own} if none else own)
    counts = [r.details["sizes"]["count"] for r in results if "sizes" in r.details]
    return RegularisationFindings(
        curves=curves,
        sd=pooled_sd([by_seed(group, _ap) for group in groups.values()])[0],
        modules=int(max(counts, default=0)),
    )


def _curve(kind: str, groups: Mapping[float, Group]) -> Curve:
    size = _size("l1" if kind == "l1" else "l2")
    points = tuple(_point(value, group, groups, size) for value, group in groups.items())
    strengths = [point.strength for point in points]
    place = corner_of([mean_of(p.size) for p in points], [mean_of(p.data) for p in points])
    corner = None if place is None else strengths[place]
    best = max(points, key=lambda point: mean_of(point.val)).strength
    corners = []
    for key in next(iter(groups.values())):
        along = [group[key] for group in groups.values() if key in group]
        if len(along) == len(points):
            found = corner_of([size(r) for r in along], [_data(r) for r in along])
            corners += [] if found is None else [strengths[found]]
    lost = spread([]) if corner is None else apart(groups[corner], groups[best], _ap)
    return Curve(kind, points, corner, tuple(corners), best, lost)


def _point(
    value: float, group: Group, groups: Mapping[float, Group], size: Quantity
) -> Point:
    def each(quantity: Quantity) -> tuple[float, ...]:
        return tuple(quantity(result) for result in group.values())

    return Point(
        strength=value,
        data=each(_data),
        size=each(size),
        ap=each(_ap),
        val=each(lambda r: r.scores["val"]),
        sparse=each(_size(SPARSE)),
        norm=each(_size("l2")),
        gain=apart(group, groups.get(0.0, {}), _ap),
    )


def _data(result: Result) -> float:
    return float(result.details.get("data", float("nan")))


def _ap(result: Result) -> float:
    return result.scores["test"]


def _size(name: str) -> Quantity:
    return lambda result: float(result.details.get("sizes", {}).get(name, float("nan")))


def mean_of(values: Sequence[float]) -> float:
    """Over the trainings of a strength; nan without any."""
    return sum(values) / len(values) if values else float("nan")
