"""What was measured over the number of terms, and what should hold of it."""

from dataclasses import dataclass

from lossweave.studies.benchmark.boundary_findings import Check, k_pass_limit
from lossweave.studies.benchmark.timing import PairedTimes

__all__ = ["AIM", "BATCHED", "ManyTerms", "TermCosts"]

#: Rows of all terms in one vectorised pass, by boundary.
BATCHED = {
    "features": "features, one batched pass",
    "parameters": "parameters, one batched pass",
}
#: How much of a stock step a term may add at the cheap boundaries.
AIM = 0.01
_CHEAP = ("representation", "features")


@dataclass(frozen=True)
class ManyTerms:
    """What is to be measured.

    Args:
        method: a combiner of gradients; a cheap one, so that the passes are what is measured.
        counts: numbers of terms.
        processes: numbers of processes that train together, with ``across`` terms.
        across: that number of terms.
        rounds: paired rounds of A B B A steps, of few terms.
        batch_size: pictures a step.
        size: their height and width.
        work_dir: where the result is written.
        command: the command that asked for it.
    """

    method: str = "PCGrad"
    counts: tuple[int, ...] = (2, 4, 8, 16)
    processes: tuple[int, ...] = (1, 2, 4)
    across: int = 4
    rounds: int = 8
    batch_size: int = 4
    size: int = 160
    work_dir: str = "work_dirs/many_terms"
    command: str = "python tools/benchmark.py --many-terms"

    def rounds_of(self, count: int) -> int:
        """Fewer where a step takes longer, 3 at least.

        Example:
            >>> [ManyTerms(rounds=8).rounds_of(count) for count in (2, 4, 8, 16)]
            [8, 8, 4, 3]
        """
        return min(self.rounds, max(3, 4 * self.rounds // count))


@dataclass(frozen=True)
class TermCosts:
    """The measurements with one number of terms.

    Args:
        terms: that number K.
        processes: how many trained together; 0 is without DDP.
        steps: per row, steps paired with stock ones, in seconds of CPU time.
        forward: median seconds of the stock forward.
        backward: of the stock backward.
    """

    terms: int
    processes: int
    steps: dict[str, PairedTimes]
    forward: float
    backward: float

    @property
    def limit(self) -> float:
        """The K-pass limit of this run."""
        return k_pass_limit(self.forward, self.backward, self.terms)

    def per_term(self, row: str) -> float:
        """How much of a stock step a term adds.

        Example:
            >>> times = PairedTimes((1.0,), (1.5,))
            >>> TermCosts(4, 0, {"parameters": times}, 0.4, 0.6).per_term("parameters")
            0.125
        """
        return (self.steps[row].ratio - 1) / self.terms

    def checks(self) -> list[Check]:
        """What should hold."""
        found = [
            Check(f"{row}: a term's part of a stock step", self.per_term(row), AIM)
            for row in _CHEAP
        ]
        exact = self.steps["parameters"].ratio
        return [*found, Check("parameters: time to 1.05 K-pass", exact, 1.05 * self.limit)]
