"""What short runs ask for, and what a training's log says of it."""

import math
from dataclasses import dataclass
from pathlib import Path

from lossweave.combiners import GradientCombiner, combiner_class, combiner_names
from lossweave.errors import LossweaveError
from lossweave.studies.runs.record import read_run

__all__ = ["CONFIGS", "ShortRun", "ShortRuns", "gradient_combiners", "judged"]

#: The demo's detectors.
CONFIGS = {
    "ssd": "lossweave::mmdet/demo/ssd_demo.py",
    "retinanet": "lossweave::mmdet/demo/retinanet_demo.py",
    "faster_rcnn": "lossweave::mmdet/demo/faster-rcnn_demo.py",
}


def gradient_combiners() -> list[str]:
    """The registered combiners that need each term's own gradient."""
    return [n for n in combiner_names() if issubclass(combiner_class(n), GradientCombiner)]


@dataclass(frozen=True)
class ShortRuns:
    """What to train.

    Args:
        combiners: names; None means the plain sum, to compare with, and all that need gradients.
        detectors: keys of :data:`CONFIGS`.
        iterations: length of a training; schedules are shortened to it.
        batch_size: pictures an iteration.
        boundary: where gradients are combined; None means each combiner's own. Combiners of
            values have none.
        seed: of initial weights and data order, the same for all.
        work_dir: where everything is written; finished trainings are kept.
        fresh: whether to discard earlier trainings there.
        command: the command that asked for it.
    """

    combiners: tuple[str, ...] | None = None
    detectors: tuple[str, ...] = tuple(CONFIGS)
    iterations: int = 100
    batch_size: int = 4
    boundary: str | None = None
    seed: int = 0
    work_dir: str = "work_dirs/short_runs"
    fresh: bool = False
    command: str = "python tools/short_runs.py"


@dataclass(frozen=True)
class ShortRun:
    """One training and what is said of it.

    Args:
        detector: its name.
        combiner: the combiner's name.
        terms: by name, every iteration's raw value.
        finite: whether all that was logged, and all weights at the end, are finite.
        seconds: of training, start and data included.
        error: the message it ended with; empty where it ran to its end.
    """

    detector: str
    combiner: str
    terms: dict[str, list[float]]
    finite: bool
    seconds: float
    error: str = ""

    def means(self, term: str) -> tuple[float, float]:
        """A term's mean over the first and over the last fifth of the iterations."""
        values = self.terms[term]
        part = max(1, len(values) // 5)
        return sum(values[:part]) / part, sum(values[-part:]) / part

    @property
    def total(self) -> tuple[float, float]:
        """The same of the terms' sum, the value that combiners of gradients lower."""
        firsts, lasts = zip(*(self.means(term) for term in self.terms), strict=True)
        return sum(firsts), sum(lasts)

    @property
    def fell(self) -> bool:
        """Whether the terms' sum fell. A single term may rise even under the plain sum: the
        box loss of a RoI head is averaged over all regions, and few are positive at first."""
        return bool(self.terms) and self.total[1] < self.total[0]

    @property
    def rose(self) -> list[str]:
        """The terms that did not fall."""
        return [t for t in self.terms if not self.means(t)[1] < self.means(t)[0]]

    @property
    def good(self) -> bool:
        """Whether it ran to its end, finite, with falling losses."""
        return self.finite and self.fell and not self.error


def judged(
    folder: Path, detector: str, combiner: str, sound: bool, seconds: float, error: str = ""
) -> ShortRun:
    """The record of what a training logged.

    Args:
        folder: the training's work directory.
        detector: its name.
        combiner: the combiner's name.
        sound: whether the weights at the end are finite.
        seconds: what it took.
        error: the message it ended with.
    """
    try:
        found = read_run(folder, combiner)
    except LossweaveError:
        return ShortRun(detector, combiner, {}, False, seconds, error or "nothing was logged")
    terms = {name: list(history.value.values) for name, history in found.terms.items()}
    series = [*terms.values(), *(list(h.weight.values) for h in found.terms.values())]
    finite = sound and all(math.isfinite(value) for values in series for value in values)
    return ShortRun(detector, combiner, terms, finite, seconds, error)
