"""Losses that are not finite: what is looked at, and how it is said."""

from collections.abc import Mapping

from torch import Tensor

from lossweave.combination.terms import TermMap

__all__ = ["ADVICE", "ON_NONFINITE", "all_finite", "described"]

#: What helps where a loss is not finite.
ADVICE = "lower the learning rate, clip gradients, or set on_nonfinite='skip'"
ON_NONFINITE = ("raise", "skip")


def all_finite(value: Tensor, weights: Tensor, bad: Tensor, skipped: Tensor) -> Tensor:
    """Whether an update may go on, on the device.

    Args:
        value: the combination's.
        weights: the terms'.
        bad: not 0 where a loss on any rank is not finite.
        skipped: not 0 where the accumulation window is to be skipped already.
    """
    return (bad == 0).all() & value.isfinite() & weights.isfinite().all() & (skipped == 0).all()


def described(values: Mapping[str, float], total: str, terms: TermMap, label: str) -> str:
    """Words for losses that are not finite.

    Args:
        values: these losses by the names in the framework's log.
        total: the name there of what was optimised.
        terms: which of them belong to which term.
        label: the combiner's name.

    Example:
        >>> described({"loss_cls": float("nan")}, "loss", TermMap.by_task(), "Max")
        "loss_cls (term 'cls') is nan"
    """
    raw = [name for name in values if name != total] or list(values)
    assigned = terms.assign(raw).entries
    term = {n: t for t, names in zip(terms.names, assigned, strict=True) for n in names}
    what = ", ".join(
        f"{name}{f' (term {term[name]!r})' if name in term else ''} is {values[name]}"
        for name in raw
    )
    if raw == [total]:
        what += f"; the terms are finite, their combination by {label} is not"
    return what
