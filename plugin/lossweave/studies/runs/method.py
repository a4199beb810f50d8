"""What a study asks for, and what it gets back: a method, a training of it, its score."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lossweave.combiners import combiner_class
from lossweave.errors import LossweaveError

__all__ = ["AP", "AP50", "RATE", "Method", "Score", "Trial"]

AP, AP50 = "coco/bbox_mAP", "coco/bbox_mAP_50"
#: Where a config has its learning rate.
RATE = "optim_wrapper.optimizer.lr"


@dataclass(frozen=True)
class Method:
    """A combiner with its arguments, as typed: ``'Sum weights=[1,2]'``.

    Raises:
        LossweaveError: an unknown combiner.

    Example:
        >>> method = Method.parse("Sum weights=[1,2]")
        >>> method.label, method.options, method.folder
        ('Sum weights=[1,2]', ('weights=[1,2]',), 'Sum_weights-1-2')
    """

    combiner: str
    options: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "Method":
        """A method from its words."""
        words = text.split()
        if not words:
            raise LossweaveError("a method is a combiner's name and its options, not ''")
        combiner_class(words[0])
        return cls(words[0], tuple(words[1:]))

    @property
    def label(self) -> str:
        """As it was typed."""
        return " ".join([self.combiner, *self.options])

    @property
    def folder(self) -> str:
        """A name for a folder."""
        kept = "".join(c if c.isalnum() or c in "._" else "-" for c in "_".join(self.options))
        parts = [part for part in kept.split("-") if part]
        return "_".join(part for part in (self.combiner, "-".join(parts)) if part)


@dataclass(frozen=True)
class Score:
    """One finished training.

    Args:
        method: the method's label.
        seed: its seed.
        val: COCO AP on the validation split.
        test: COCO AP on the test split.
        test50: AP at IoU .50 on the test split.
        details: commands, weights, seconds per iteration.
        rate: the learning rate that the study asked for; None where it is the config's.
        place: which code trained on what machine. Scores of two places are no pair.
    """

    method: str
    seed: int
    val: float
    test: float
    test50: float
    details: dict[str, Any] = field(default_factory=dict)
    rate: float | None = None
    place: str = ""


@dataclass(frozen=True)
class Trial:
    """One training that a study asks for.

    Args:
        method: what combines the losses.
        seed: of the initial weights and of the order of the data.
        config: an iteration-based config with COCO evaluation on two splits.
        work_dir: the study's folder; the training has one of its own in it.
        options: further ``--cfg-options``.
        jobs: trainings that share the cores.
        rate: the learning rate; the config's if None.
        boxes: whether the detections on the test split are kept
            (:mod:`~lossweave.studies.runs.boxes`).
        may_diverge: whether a loss that stops being finite is a finding and no mistake, as it is
            wherever the study asks for a rate.
    """

    method: Method
    seed: int
    config: str
    work_dir: str
    options: tuple[str, ...] = ()
    jobs: int = 1
    rate: float | None = None
    boxes: bool = False
    may_diverge: bool = False

    @property
    def folder(self) -> Path:
        """The training's own folder; one per learning rate, if the study asks for one."""
        rate = "" if self.rate is None else f"_lr{self.rate!r}"
        return Path(self.work_dir) / f"{self.method.folder}_seed{self.seed}{rate}"

    @property
    def settings(self) -> tuple[str, ...]:
        """All ``--cfg-options`` but the seed's."""
        return self.options if self.rate is None else (*self.options, f"{RATE}={self.rate!r}")
