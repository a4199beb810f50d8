"""What the config that a search ends in says: stock keys, or a combiner, and for whom."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from lossweave.errors import LossweaveError
from lossweave.studies.tune.keys import Keys
from lossweave.studies.tune.space import Point

__all__ = ["INTO", "child_settings"]

#: Where weights go: stock keys if all terms have them, else the combiner; or one of them alone.
INTO = ("auto", "stock", "combiner")
_DIGITS = 6


def child_settings(
    keys: Keys, terms: Sequence[str], point: Point, into: Literal["auto", "stock", "combiner"]
) -> dict[str, float] | None:
    """The stock keys with the values that a point gives them; None where the combiner weighs.

    Where one term has no key, and the optimizer lets it, all weights are divided by that term's,
    and the rate and the decay take that up: the same training, up to rounding.

    Args:
        keys: of the user's config.
        terms: the terms' names, in the order of the point's weights.
        point: the weights and the rate.
        into: one of :data:`INTO`.

    Raises:
        LossweaveError: 'stock', and a term has no key.

    Example:
        >>> keys = Keys({"cls": ("a.loss_weight",), "loc": ()}, {"a.loss_weight": 2.0}, {})
        >>> child_settings(keys, ["cls", "loc"], Point((1.0,), (1.5, 0.5), 0.1), "auto")
        {'a.loss_weight': 3.0}
    """
    if into == "combiner":
        return None
    if not keys.complete and keys.scaled is None:
        if into == "stock":
            term, why = next(iter(keys.problems.items()))
            raise LossweaveError(
                f"--into stock: the term {term!r} cannot be weighed by the config's own keys "
                f"({why}); --into combiner weighs it by Sum(weights)"
            )
        return None
    weights = dict(zip(terms, point.weights, strict=True))
    whole = 1.0 if keys.scaled is None else weights[keys.scaled]
    found = {
        path: keys.values[path] * weight / whole
        for term, weight in weights.items()
        for path in keys.terms[term]
    }
    if keys.scaled is not None and keys.scaling is not None:
        found[keys.scaling.rate] = point.rate * whole
        found.update({path: decay / whole for path, decay in keys.scaling.decays.items()})
    return {path: float(f"{value:.{_DIGITS}g}") for path, value in found.items()}
