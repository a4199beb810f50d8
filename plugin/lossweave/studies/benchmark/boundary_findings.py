"""What was measured at each boundary, and what should hold of it."""

from collections.abc import Sequence
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
    "heads_limit",
    "k_pass_limit",
]

BOUNDARIES = ("representation", "features", "parameters")
#: The same method without lossweave.
FLAT, TORCHJD, TORCHJD_MTL = "LibMTL's way", "TorchJD backward", "TorchJD mtl_backward"
#: The boundaries that should cost next to nothing. Where terms share layers above the features, as
#: in Faster R-CNN, no exact way is that cheap there: the heads' limit says what can be had.
_CHEAP = ("representation", "features")


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
        heads: median seconds of the backward from all terms at once down to the features, and to
            the parameters above them.
        heads_by_term: likewise from each term alone.
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
    heads: float = 0.0
    heads_by_term: tuple[float, ...] = ()

    def memory(self, name: str) -> int:
        """Peak bytes of a row's step, with what is live all the time."""
        return self.resident + self.peaks[name]

    def memory_limit(self, name: str) -> float:
        """Stock + 5 % + K copies of the gradients that are combined."""
        return 1.05 * self.memory(CONTROL) + self.terms * self.shared.get(name, 0)

    def checks(self) -> "list[Check]":
        """What should hold of the rows that were measured."""
        found = []
        for cheap in _CHEAP:
            if cheap in self.steps:
                found.append(Check(f"{cheap}: time to stock", self.steps[cheap].ratio, 1.06))
        if "features" in self.steps and self.heads_by_term:
            ratio = self.steps["features"].ratio
            most = 1.05 * self.heads_limit
            found.append(Check("features: time to 1.05 heads' limit", ratio, most))
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

    @property
    def heads_limit(self) -> float:
        """The heads' limit of this run."""
        return heads_limit(self.forward, self.backward, self.heads, self.heads_by_term)


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


def heads_limit(forward: float, backward: float, heads: float, by_term: Sequence[float]) -> float:
    r"""A step that has each term's own gradient at the features, and one backward below them.

    :math:`(F + B - H + \sum_k H_k) / (F + B)`, with the backward :math:`H` from all terms at once
    down to the features and :math:`H_k` from term k alone: the least that any way takes which
    differentiates the terms one by one there. What no two terms share, :math:`H` and one
    :math:`H_k` both hold; what K terms share, as the fully connected layers of a RoI head, is
    gone through K times. It is never above :math:`(F + B + (K - 1) H) / (F + B)`, which it would
    be if the terms shared everything.

    Args:
        forward: seconds of the forward, F.
        backward: of the whole backward from the sum, B, of which H is a part.
        heads: H.
        by_term: the H_k.

    Example:
        Heads that share nothing; heads that share all:

        >>> heads_limit(1.0, 2.0, 1.0, [0.75, 0.25])
        1.0
        >>> heads_limit(1.0, 2.0, 0.75, [0.75, 0.75])
        1.25
    """
    return (forward + backward - heads + sum(by_term)) / (forward + backward)
