"""What the looks of a training say, computed once, from tables of inner products alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import ceil, exp, inf, log, sqrt
from statistics import fmean, stdev

import torch

from lossweave.combiners.gradients.normbalanced import balanced_weights
from lossweave.studies.diagnose.record import Look, Means, Record, Table
from lossweave.studies.diagnose.thresholds import CLIPPED, CONFIDENT, HELD

__all__ = [
    "Pair",
    "Stage",
    "Term",
    "find",
    "held_back",
    "lengths",
    "shares",
    "static_weights",
]

#: What losses that belong to no term are called; their weight is not asked for.
OTHERS = "others"


def static_weights(terms: Sequence[str], gramians: Sequence[Table]) -> dict[str, float]:
    r"""Fixed weights under which the terms' gradients have equal lengths:
    :math:`w_k \propto 1 / \bar n_k`, where :math:`\bar n_k` is the geometric mean of
    :math:`\|g_k\|` over the looks, at the scale of the plain sum (the lengths add up to the same).

    Args:
        terms: their names.
        gramians: of each look, the K x K inner products of the terms' gradients. A term that has
            no gradient anywhere keeps the weight 1.

    Example:
        >>> found = static_weights(["cls", "loc"], [[[9.0, 0.0], [0.0, 1.0]]])
        >>> {term: round(weight, 4) for term, weight in found.items()}
        {'cls': 0.6667, 'loc': 2.0}
    """
    norms = lengths(gramians, len(terms))
    known = [k for k, norm in enumerate(norms) if norm > 0 and terms[k] != OTHERS]
    weights = {term: 1.0 for term in terms if term != OTHERS}
    if known:
        found = torch.tensor([norms[k] for k in known], dtype=torch.float64)
        made = balanced_weights(found, torch.ones_like(found))
        weights.update(zip((terms[k] for k in known), made.tolist(), strict=True))
    return weights


def lengths(gramians: Sequence[Table], count: int) -> list[float]:
    """The geometric mean over the looks of each gradient's length; 0 where there never is one."""
    found = []
    for k in range(count):
        squares = [table[k][k] for table in gramians if table[k][k] > 0]
        found.append(exp(fmean(log(s) for s in squares) / 2) if squares else 0.0)
    return found


def shares(table: Table) -> list[float]:
    r"""Each term's share of a step that is the sum of their parts:
    :math:`\langle u_k, u \rangle / \|u\|^2`. They add up to 1; one below 0 pulls against it.

    Example:
        >>> shares([[9.0, -1.0], [-1.0, 1.0]])
        [1.0, 0.0]
    """
    rows = [sum(row) for row in table]
    total = sum(rows)
    return [row / total if total > 0 else 0.0 for row in rows]


def held_back(table: Table, weights: Sequence[float] | None = None) -> list[float]:
    r"""What the sum's step does for each term, over what a step along the term's own gradient
    does: :math:`\langle g_k, \sum_j w_j g_j \rangle / (w_k \|g_k\|^2)`. 1 where the others are
    orthogonal; below 0 the step raises the term. 1 for a term without a gradient.

    Example:
        >>> held_back([[1.0, -3.0], [-3.0, 16.0]])
        [-2.0, 0.8125]
    """
    w = [1.0] * len(table) if weights is None else weights
    return [
        sum(a * b for a, b in zip(w, row, strict=True)) / (w[k] * row[k]) if row[k] > 0 else 1.0
        for k, row in enumerate(table)
    ]


@dataclass(frozen=True)
class Term:
    """One term in one stage.

    Args:
        name: its own.
        value: its mean.
        length: its gradient's, at the shared parameters, the geometric mean over the batches.
        whole: the same over all parameters.
        signal: the share of a batch's gradient, in squared length, that is the mean gradient; 0 is
            noise, 1 the same gradient in every batch.
        told: whether the mean gradient is told from noise by these batches; None where it is not,
            and the weights moved meanwhile.
        enough: how many batches as one have as much signal as noise (the gradient's noise scale).
        sgd: its share of an SGD step.
        adam: its share of an Adam step.
        gain: what the sum's step does for it, over what its own would; see :func:`held_back`.
        held: the share of the batches in which that is below
            :data:`~lossweave.studies.diagnose.thresholds.HELD`.
        held_balanced: the same under the static weights.
        raised: the share of the steps, as the optimizer made them, that raised it.
        fall: its relative fall in such a step, to first order, the mean.
    """

    name: str
    value: float
    length: float
    whole: float
    signal: float
    told: bool | None
    enough: float
    sgd: float
    adam: float
    gain: float
    held: float
    held_balanced: float
    raised: float
    fall: float


@dataclass(frozen=True)
class Pair:
    """Two terms in one stage.

    Args:
        terms: their names.
        cosine: the mean over the batches, at the shared parameters; None where they share none.
        spread: its standard deviation.
        negative: the share of the batches in which it is below 0.
        expected: the cosine of the two mean gradients, without the noise that the two have in
            common; None where one of them is not told from noise.
        features: the mean cosine at the detector's features.
        ratio: the first gradient's length over the second's.
        batches: how many batches until it is known which of the two is longer.
        parts: by part of the model, the mean cosine there; only parts that both reach.
    """

    terms: tuple[str, str]
    cosine: float | None
    spread: float
    negative: float
    expected: float | None
    features: float | None
    ratio: float
    batches: float
    parts: dict[str, float]


@dataclass(frozen=True)
class Stage:
    """What is found in one stage.

    Args:
        name: its name.
        looks: how many.
        batches: from how many signal and noise are told apart.
        terms: in order.
        pairs: all of them.
        parts: by part of the model, each term's length there (0 where it does not reach).
        weights: the static weights.
        norm: the mean length of the whole gradient, before clipping.
        clipping: the share of the updates in which clipping binds.
        left: the mean share of the gradient's length that it leaves.
        tiny: the mean share of the parameters for which Adam's epsilon counts.
        condition: of the terms' gradients at the shared parameters, the ratio of the largest to
            the smallest singular value (inf where they are dependent): as they are, and weighted.
    """

    name: str
    looks: int
    batches: int
    terms: list[Term]
    pairs: list[Pair]
    parts: dict[str, list[float]]
    weights: dict[str, float]
    norm: float
    clipping: float
    left: float
    tiny: float
    condition: tuple[float, float]


def find(record: Record) -> list[Stage]:
    """What the looks say, stage by stage."""
    return [_stage(record, name, record.of(name)) for name in record.stages]


def _stage(record: Record, name: str, looks: list[Look]) -> Stage:
    common = [_common(look) for look in looks]
    weights = static_weights(record.terms, common)
    w = [weights.get(term, 1.0) for term in record.terms]
    names = range(len(record.terms))
    means = record.means[name]
    mean = [[fmean(table[i][j] for table in common) for j in names] for i in names]
    weighted = [[w[i] * w[j] * mean[i][j] for j in names] for i in names]
    return Stage(
        name=name,
        looks=len(looks),
        batches=means.count,
        terms=[_term(record, looks, common, means, w, k) for k in names],
        pairs=[_pair(record, looks, common, means, i, j) for i, j in combinations(names, 2)],
        parts={
            part: lengths([look.parts[part] for look in looks], len(record.terms))
            for part in looks[0].parts
        },
        weights=weights,
        norm=fmean(look.norm for look in looks),
        clipping=fmean(look.clipped < CLIPPED for look in looks),
        left=fmean(look.clipped for look in looks),
        tiny=fmean(look.tiny for look in looks),
        condition=(_condition(mean), _condition(weighted)),
    )


def _common(look: Look) -> Table:
    """The table that the terms are compared by: of what they share, else of everything."""
    return look.shared if any(map(any, look.shared)) else look.whole


def _term(
    record: Record, looks: list[Look], common: list[Table], means: Means, w: list[float], k: int
) -> Term:
    there = [look for look in looks if look.present[k]] or looks
    signal, length = means.inner[k][k], means.own[k][k]
    gains = [held_back(look.whole)[k] for look in there]
    balanced = [held_back(look.whole, w)[k] for look in there]
    return Term(
        name=record.terms[k],
        value=fmean(look.values[k] for look in there),
        length=lengths(common, k + 1)[k],
        whole=lengths([look.whole for look in looks], k + 1)[k],
        signal=min(1.0, max(0.0, signal / length)) if length > 0 else 0.0,
        told=_told(means, k) or (False if means.still else None),
        enough=max(0.0, length - signal) / signal if signal > 0 else inf,
        sgd=fmean(shares(look.sgd)[k] for look in looks),
        adam=fmean(shares(look.adam)[k] for look in looks),
        gain=fmean(gains),
        held=fmean(gain < HELD for gain in gains),
        held_balanced=fmean(gain < HELD for gain in balanced),
        raised=fmean(look.effects[k] > 0 for look in there),
        fall=fmean(-look.effects[k] / look.values[k] if look.values[k] else 0.0 for look in there),
    )


def _told(means: Means, k: int) -> bool:
    """Whether a mean gradient is told from noise."""
    return means.inner[k][k] > CONFIDENT * means.error[k][k]


def _pair(
    record: Record, looks: list[Look], common: list[Table], means: Means, i: int, j: int
) -> Pair:
    cosines = _cosines([look.shared for look in looks], i, j)
    at_features = _cosines([x.features for x in looks if x.features is not None], i, j)
    ratios = [
        log(table[i][i] / table[j][j]) / 2 for table in common if table[i][i] and table[j][j]
    ]
    parts = {
        part: found
        for part in looks[0].parts
        if (found := _cosines([look.parts[part] for look in looks], i, j))
    }
    expected = None
    if _told(means, i) and _told(means, j):
        expected = means.inner[i][j] / sqrt(means.inner[i][i] * means.inner[j][j])
    return Pair(
        terms=(record.terms[i], record.terms[j]),
        cosine=fmean(cosines) if cosines else None,
        spread=stdev(cosines) if len(cosines) > 1 else 0.0,
        negative=fmean(c < 0 for c in cosines) if cosines else 0.0,
        expected=None if expected is None else min(1.0, max(-1.0, expected)),
        features=fmean(at_features) if at_features else None,
        ratio=exp(fmean(ratios)) if ratios else inf,
        batches=batches_until_known(ratios),
        parts={part: fmean(found) for part, found in parts.items()},
    )


def _cosines(tables: Sequence[Table], i: int, j: int) -> list[float]:
    """Of the looks in which both gradients are there."""
    found = []
    for table in tables:
        scale = sqrt(table[i][i] * table[j][j])
        if scale > 0:
            found.append(min(1.0, max(-1.0, table[i][j] / scale)))
    return found


def batches_until_known(values: Sequence[float]) -> float:
    """How many batches it takes until the sign of a mean is known: until it is
    :data:`~lossweave.studies.diagnose.thresholds.CONFIDENT` standard errors from zero.

    Args:
        values: one a batch; of fewer than two nothing is known (inf).

    Example:
        >>> batches_until_known([1.0, 1.2, 0.8]), batches_until_known([1.0, -1.0])
        (1, inf)
    """
    if len(values) < 2 or fmean(values) == 0:
        return inf
    return max(1, ceil((CONFIDENT * stdev(values) / fmean(values)) ** 2 - 1e-9))


def _condition(table: Table) -> float:
    values = torch.linalg.eigvalsh(torch.tensor(table, dtype=torch.float64)).clamp(min=0).tolist()
    values = [value for value, row in zip(values, table, strict=True) if any(row)] or [0.0]
    return sqrt(values[-1] / values[0]) if values[0] > 1e-12 * values[-1] else inf
