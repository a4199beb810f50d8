"""The raw losses of a two-stage detector, by the four terms that schedules speak of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lossweave.combination.terms import TermMap
from lossweave.errors import LossweaveError

__all__ = ["active_losses", "check_terms", "loss_names", "sums_by_term"]

_TERMS = TermMap.by_head(rpn=True, roi=True)


def loss_names(names: Iterable[str]) -> list[str]:
    """Those of a detector's outputs that are losses.

    Example:
        >>> loss_names(["loss_rpn_cls", "acc", "loss"])
        ['loss_rpn_cls']
    """
    return [name for name in names if "loss" in name and name != "loss"]


def sums_by_term(values: Mapping[str, float]) -> dict[str, float]:
    """The losses of each term added up; one that belongs to no term stands for itself.

    Example:
        >>> sums_by_term({"loss_cls": 0.5, "loss_bbox": 0.25, "loss_mask": 1.0})
        {'roi_cls': 0.5, 'roi_loc': 0.25, 'loss_mask': 1.0}
    """
    assigned = _TERMS.assign(list(values))
    groups = dict(zip(_TERMS.names, assigned.entries, strict=True))
    groups.update({name: (name,) for name in assigned.extra})
    return {term: sum(values[e] for e in entries) for term, entries in groups.items() if entries}


def active_losses(losses: Mapping[str, Any], active_terms: Sequence[str] | None) -> dict[str, Any]:
    """What a detector returns, without the losses of terms that a stage does not optimise.

    Args:
        losses: losses, and whatever else is logged, by name.
        active_terms: of the four; None means all.

    Example:
        >>> active_losses({"loss_rpn_cls": 1, "loss_rpn_bbox": 2, "acc": 3}, ["rpn_cls"])
        {'loss_rpn_cls': 1, 'acc': 3}
    """
    if active_terms is None:
        return dict(losses)
    entries = dict(zip(_TERMS.names, _TERMS.assign(loss_names(losses)).entries, strict=True))
    inactive = {e for term in entries if term not in active_terms for e in entries[term]}
    return {name: value for name, value in losses.items() if name not in inactive}


def check_terms(
    stage: str, terms: TermMap, entries: Mapping[str, Any], raw: Mapping[str, Any]
) -> None:
    """Refuse terms that do not fit the losses of a stage, before anything is trained.

    Args:
        stage: its name.
        terms: of the combination.
        entries: the losses of the stage's network by name, each reduced to a scalar.
        raw: the losses as the network returned them.

    Raises:
        LossweaveError: naming the stage and the term.

    Example:
        >>> check_terms("rpn1", TermMap({"cls": "loss_cls"}), {"loss_rpn_cls": 1.0}, {})
        Traceback (most recent call last):
        ...
        lossweave.errors.LossweaveError: stage 'rpn1': pattern 'loss_cls' of term 'cls' matches \
nothing; the detector's losses are: loss_rpn_cls; did you mean 'loss_rpn_cls'?
    """
    split = terms.split(entries, raw)
    try:
        terms.settled_for(split).check(split)
    except LossweaveError as error:
        raise LossweaveError(f"stage {stage!r}: {error}") from None
