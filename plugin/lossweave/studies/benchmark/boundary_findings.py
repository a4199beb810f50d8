"""What was measured at each boundary, and what should hold of it."""

from dataclasses import dataclass, field

from lossweave.studies.benchmark.detectors import CONTROL
from lossweave.studies.benchmark.timing import PairedTimes

__all__ = [
    "BOUNDARIES",
    "FLAT",
    "TORCHJD",
    "TORCHJD_MTL",
    "BoundaryCosts",
    "Check",
    "k_pass_limit",
]

BOUNDARIES = ("representation", "features", "parameters")
#: The same method without lossweave.
FLAT, TORCHJD, TORCHJD_MTL = "LibMTL's way", "TorchJD backward", "TorchJD mtl_backward"
#: The boundaries above which the terms cls and loc share nothing; those of Faster R-CNN share some
#: layers above the features.
_CHEAP = {
    "retinanet": ("representation", "features"),
    "ssd": ("representation", "features"),
    "faster_rcnn": ("representation",),
}


@dataclass(frozen=True)
class BoundaryCosts:
    """The measurements on one detector.

    Args:
        detector: its name.
        method: the combiner.
        forward: median seconds of the stock forward and parse_losses.
        backward: median seconds of the stock backward.
        terms: number of terms K.
        steps: per boundary, other way, and :data:`CONTROL`, steps paired with stock ones.
        notes: per row, how it had to be called.
        peaks: peak bytes of a step of each row, beyond what was live before it.
        resident: bytes of parameters, buffers and optimizer, which are live before it.
        shared: per row, bytes of one copy of the gradients that are combined.
    """

    detector: str
    method: str
    forward: float
    backward: float
    terms: int
    steps: dict[str, PairedTimes]
    notes: dict[str, str] = field(default_factory=dict)
    peaks: dict[str, int] = field(default_factory=dict)
    resident: int = 0
    shared: dict[str, int] = field(default_factory=dict)

    def memory(self, name: str) -> int:
        """Peak bytes of a row's step, with what is live all the time."""
        return self.resident + self.peaks[name]

    def memory_limit(self, name: str) -> float:
        """Stock + 5 % + K copies of the gradients that are combined."""
        return 1.05 * self.memory(CONTROL) + self.terms * self.shared.get(name, 0)

    def checks(self) -> "list[Check]":
        """What should hold of the rows that were measured."""
        found = []
        for cheap in _CHEAP.get(self.detector, ()):
            if cheap in self.steps:
                found.append(Check(f"{cheap}: time to stock", self.steps[cheap].ratio, 1.06))
        if "parameters" in self.steps:
            exact = self.steps["parameters"].ratio
            found.append(Check("parameters: time to 1.05 K-pass", exact, 1.05 * self.limit))
            for name in (TORCHJD, TORCHJD_MTL, FLAT):
                if name in self.steps:
                    ratio = self.steps[name].ratio
                    found.append(Check(f"parameters: time to {name}", exact, ratio))
        for name in BOUNDARIES:
            if name in self.peaks:
                limit = self.memory_limit(name) / self.memory(CONTROL)
                ratio = self.memory(name) / self.memory(CONTROL)
                found.append(Check(f"{name}: memory to its limit", ratio, limit))
        return found

    @property
    def limit(self) -> float:
        """The K-pass limit of this run."""
        return k_pass_limit(self.forward, self.backward, self.terms)


@dataclass(frozen=True)
class Check:
    """A ratio to stock, and the most it should be.

    Example:
        >>> Check("parameters", 1.55, 1.6).held
        True
    """

    what: str
    ratio: float
    most: float

    @property
    def held(self) -> bool:
        """Whether it is."""
        return self.ratio <= self.most


def k_pass_limit(forward: float, backward: float, terms: int) -> float:
    """(F + K B) / (F + B): a step that runs the whole backward once per term.

    Example:
        >>> k_pass_limit(1.0, 2.0, 2)
        1.6666666666666667
    """
    return (forward + terms * backward) / (forward + backward)
