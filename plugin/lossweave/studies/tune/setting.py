"""What all trainings of a search share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil

from lossweave.errors import LossweaveError

__all__ = ["Setting"]


@dataclass(frozen=True)
class Setting:
    """What all trainings of a search share.

    Args:
        config: as typed.
        options: further ``--cfg-options``.
        seed: of the first weights and of the draws, the same for all.
        length: of a whole training, in iterations or epochs.
        unit: which of the two.
        budget: as a ledger's results say it.
        hash: of the resolved config.
        rate: the config's learning rate.
        annotations: COCO annotations of the validation split.
        classes: those that are detected; all of the annotations' if empty.
        loading: options that load without workers where there is no GPU.
        asked: the study's command.
        jobs: trainings that share the cores.
    """

    config: str
    options: tuple[str, ...]
    seed: int
    length: int
    unit: str
    budget: Mapping[str, int]
    hash: str
    rate: float
    annotations: str
    classes: tuple[str, ...] = ()
    loading: tuple[str, ...] = ()
    asked: str = ""
    jobs: int = 1

    def rungs(self, fractions: Sequence[float]) -> tuple[int, ...]:
        """Where a training is looked at, rounded up; its end is the last.

        Args:
            fractions: of a whole training.

        Raises:
            LossweaveError: one is not above 0 and at most 1.
        """
        wrong = [f for f in fractions if not 0 < f <= 1]
        if wrong:
            raise LossweaveError(f"--rungs: {wrong[0]:g} is no part of a training, above 0 to 1")
        found = {ceil(round(f * self.length, 6)) for f in (*fractions, 1.0)}
        return tuple(sorted(found))
