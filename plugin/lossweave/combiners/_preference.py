"""How a combiner honours importances of its terms."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from lossweave.errors import LossweaveError
from lossweave.utils.checked import Checked

__all__ = [
    "DIVIDED_ROWS",
    "LOSSES",
    "ROWS",
    "WEIGHTS",
    "Honoured",
    "PreferringType",
    "normalised",
    "own",
    "refused",
]


#: What ``prefer`` may be.
_HINT = Mapping[str, float] | Sequence[float] | None


class Honoured(NamedTuple):
    """What ``prefer`` does to a method.

    Args:
        where: what is multiplied: the 'losses' that it sees, the 'weights' that it gives, the
            'rows' of gradients that it combines, or what they are divided by ('divided rows');
            'own' where the method does it itself, 'no' where it cannot.
        words: the same for people, or why it cannot.
    """

    where: Literal["losses", "weights", "rows", "divided rows", "own", "no"]
    words: str


LOSSES = Honoured("losses", "it is a function of pₖ Lₖ")
WEIGHTS = Honoured("weights", "its weights are multiplied by pₖ")
ROWS = Honoured("rows", "it combines the gradients pₖ gₖ")
DIVIDED_ROWS = Honoured(
    "divided rows", "it combines the gradients gₖ / pₖ, of which short ones win"
)


def own(words: str) -> Honoured:
    """The method does it itself."""
    return Honoured("own", words)


def refused(words: str) -> Honoured:
    """The method cannot; the words say why, and what helps."""
    return Honoured("no", words)


def normalised(numbers: Sequence[float]) -> list[float]:
    """Importances that are 1 on average, so that equal ones change nothing.

    Example:
        >>> normalised([3.0, 1.0]), normalised([0.75, 0.25])
        ([1.5, 0.5], [1.5, 0.5])
    """
    mean = sum(numbers) / len(numbers)
    return [number / mean for number in numbers]


class PreferringType(Checked):
    """The type of classes whose constructors take ``prefer``, declared here once; those that cannot
    honour it refuse it."""

    preference: Honoured

    @property
    def also_takes(cls) -> Mapping[str, Any]:
        """Arguments of the constructor beside its own."""
        return {} if cls.preference.where == "no" else {"prefer": _HINT}

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        prefer = kwargs.get("prefer")
        if cls.preference.where == "no":
            if prefer is not None:
                raise LossweaveError(f"{cls.__name__} cannot honour prefer: {cls.preference.words}")
            kwargs.pop("prefer", None)
        made = super().__call__(*args, **kwargs)
        if prefer is not None:
            made.prefer = prefer
        return made
