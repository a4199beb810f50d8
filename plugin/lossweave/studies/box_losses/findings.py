"""What box losses make of wrong boxes, computed once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import nan
from typing import TypeVar

import numpy as np

from lossweave.studies.arms.findings import (
    Group,
    Quantity,
    apart,
    by_seed,
    grouped,
    over,
    paired,
)
from lossweave.studies.arms.study import PLACES
from lossweave.studies.box_losses.study import LOSSES, best_weights
from lossweave.studies.ledger.result import Result
from lossweave.studies.report.paired import Spread, one_a_seed, spread

__all__ = ["QUANTITIES", "REFERENCE", "LossFindings", "errors_of", "find_losses"]

_T = TypeVar("_T")
#: The loss beside which the others stand.
REFERENCE = "L1"


def errors_of(result: Result) -> np.ndarray:
    """The errors of the found objects' boxes, in sides of the object."""
    return np.array(result.details.get("boxes", {}).get("sides", ()), dtype=float) / 1000


def _quantile(q: float) -> Quantity:
    def of(result: Result) -> float:
        errors = errors_of(result)
        return float(np.quantile(errors, q)) if len(errors) else nan

    return of


def _mean(result: Result) -> float:
    errors = errors_of(result)
    return float(errors.mean()) if len(errors) else nan


def _found(result: Result) -> float:
    boxes = result.details.get("boxes", {})
    return len(boxes["sides"]) / boxes["objects"] if boxes else 0.0


def _metric(name: str) -> Quantity:
    return lambda result: float(result.details.get("metrics", {}).get(name, 0.0))


#: What is measured on the test split, by name.
QUANTITIES: Mapping[str, Quantity] = {
    "median error": _quantile(0.5),
    "mean error": _mean,
    "90th percentile": _quantile(0.9),
    "AP50": _metric("bbox_mAP_50"),
    "AP75": _metric("bbox_mAP_75"),
    "AP": _metric("bbox_mAP"),
    "found": _found,
}


@dataclass(frozen=True)
class LossFindings:
    """What the trainings say.

    Args:
        weights: by loss, the one that was chosen.
        tried: by loss and weight, AP on the validation split of the trainings that chose.
        losses: in order.
        shares: of wrong boxes, ascending.
        values: by quantity, loss and share, a number per training.
        means: likewise, over the seeds.
        harm: by quantity, loss and share above 0, what the wrong boxes changed: minus clean ones.
        beside: by quantity, loss but the reference, and share, what they changed for the loss,
            minus what they changed for the reference.
        between: likewise the loss minus the reference at one share.
    """

    weights: Mapping[str, float]
    tried: Mapping[str, Mapping[float, float]]
    losses: tuple[str, ...]
    shares: tuple[float, ...]
    values: Mapping[str, Mapping[str, Mapping[float, tuple[float, ...]]]]
    means: Mapping[str, Mapping[str, Mapping[float, Spread]]]
    harm: Mapping[str, Mapping[str, Mapping[float, Spread]]]
    beside: Mapping[str, Mapping[str, Mapping[float, Spread]]]
    between: Mapping[str, Mapping[str, Mapping[float, Spread]]]


def find_losses(results: Sequence[Result]) -> LossFindings:
    """What the trainings of a ledger say; the first seed's on clean boxes choose the weights."""
    tuning = [r for r in results if r.seed == results[0].seed and not r.details[PLACES]["share"]]
    weights = best_weights(tuning)
    tried: dict[str, dict[float, float]] = {}
    for r in tuning:
        places = r.details[PLACES]
        tried.setdefault(places["loss"], {}).setdefault(places["weight"], r.scores["val"])
    kept = [r for r in results if r.details[PLACES]["weight"] == weights.get(_loss(r))]
    groups: dict[tuple, Group] = {**grouped(kept, "loss", "share")}
    losses = tuple(loss for loss in LOSSES if loss in weights)
    shares = tuple(sorted({share for _, share in groups}))
    there = {loss: [s for s in shares if (loss, s) in groups] for loss in losses}
    wrong = {loss: [s for s in found if s] for loss, found in there.items()}
    others = [loss for loss in losses if loss != REFERENCE and REFERENCE in losses]

    def table(
        of: Callable[[Quantity, str, float], _T],
        of_losses: Sequence[str],
        of_shares: Mapping[str, Sequence[float]],
    ) -> dict[str, dict[str, dict[float, _T]]]:
        return {
            name: {
                loss: {share: of(quantity, loss, share) for share in of_shares[loss]}
                for loss in of_losses
            }
            for name, quantity in QUANTITIES.items()
        }

    def both(loss: str, by_loss: Mapping[str, list[float]]) -> list[float]:
        return [share for share in by_loss[loss] if share in by_loss[REFERENCE]]

    def beside(quantity: Quantity, loss: str, share: float) -> Spread:
        mine, its = (
            paired(groups[one, share], groups[one, 0.0], quantity) for one in (loss, REFERENCE)
        )
        return spread(one_a_seed({key: mine[key] - its[key] for key in mine if key in its}))

    return LossFindings(
        weights=weights,
        tried=tried,
        losses=losses,
        shares=shares,
        values=table(
            lambda q, loss, share: tuple(by_seed(groups[loss, share], q)),
            losses, there,
        ),
        means=table(lambda q, loss, share: over(groups[loss, share], q), losses, there),
        harm=table(
            lambda q, loss, share: apart(groups[loss, share], groups[loss, 0.0], q), losses, wrong
        ),
        beside=table(beside, others, {loss: both(loss, wrong) for loss in others}),
        between=table(
            lambda q, loss, share: apart(groups[loss, share], groups[REFERENCE, share], q),
            others, {loss: both(loss, there) for loss in others},
        ),
    )  # fmt: skip


def _loss(result: Result) -> str:
    return str(result.details[PLACES]["loss"])
