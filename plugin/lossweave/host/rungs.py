"""Where a training is looked at before its end, whatever framework it runs in."""

from collections.abc import Sequence
from pathlib import Path

from lossweave.errors import LossweaveError

__all__ = ["checked_rungs", "detections_of"]


def checked_rungs(at: int | Sequence[int]) -> list[int]:
    """Rungs as a list.

    Args:
        at: one, or some in ascending order.

    Raises:
        LossweaveError: they are no whole numbers above 0 in ascending order.

    Example:
        >>> checked_rungs(100), checked_rungs((2, 4))
        ([100], [2, 4])
    """
    numbers = [at] if isinstance(at, int) else list(at)
    whole = all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in numbers)
    if not numbers or not whole or sorted(set(numbers)) != numbers:
        raise LossweaveError(f"rungs {at!r} should be whole numbers above 0, ascending")
    return numbers


def detections_of(folder: str | Path, rung: int) -> Path:
    """Where a training keeps what a rung's evaluation has detected, in COCO's format.

    Args:
        folder: the training's work directory.
        rung: which.
    """
    return Path(folder) / f"rung_{rung}.bbox.json"
