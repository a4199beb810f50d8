"""What the benchmark of combiners asks for, and what it measured."""

from dataclasses import dataclass

from lossweave.studies.benchmark.detectors import DETECTORS
from lossweave.studies.benchmark.timing import PairedTimes

__all__ = ["Benchmark", "Cost", "DetectorResult"]


@dataclass(frozen=True)
class Benchmark:
    """What to measure.

    Args:
        detectors: keys of :data:`DETECTORS`.
        combiners: names; None means all value-based ones.
        rounds: paired rounds of A B B A whole steps.
        repeats: repetitions of the cost alone.
        batch_size: pictures a step.
        threads: torch threads; None leaves torch's choice.
        device: 'cpu' or 'cuda'; None means cuda if there is one.
        work_dir: where the result is written.
        command: the command that asked for it.
    """

    detectors: tuple[str, ...] = tuple(DETECTORS)
    combiners: tuple[str, ...] | None = None
    rounds: int = 12
    repeats: int = 300
    batch_size: int = 4
    threads: int | None = None
    device: str | None = None
    work_dir: str = "work_dirs/benchmark"
    command: str = "python tools/benchmark.py"


@dataclass(frozen=True)
class Cost:
    """What one combiner costs beside the stock detector.

    Args:
        step: whole training steps, paired with stock ones.
        own: parse_losses and the backward pass down to the raw losses, likewise.
        forward: parse_losses alone, likewise.
        added_syncs: host-device synchronisations in a step beyond the stock step's.
    """

    step: PairedTimes
    own: PairedTimes
    forward: PairedTimes
    added_syncs: int


@dataclass(frozen=True)
class DetectorResult:
    """The measurements on one detector.

    Args:
        detector: its name.
        config: its config.
        step_seconds: median stock step.
        stock_syncs: synchronisations in a stock step.
        hook_seconds: what the hook adds to an iteration between logged ones, median.
        costs: by combiner, :data:`CONTROL` among them.
    """

    detector: str
    config: str
    step_seconds: float
    stock_syncs: int
    hook_seconds: float
    costs: dict[str, Cost]

    @property
    def fastest(self) -> float:
        """Seconds of the fastest round of stock steps."""
        return min(min(cost.step.a) for cost in self.costs.values())

    def factor(self, name: str) -> tuple[float, float, float]:
        """An iteration with the combiner, in stock iterations, from its cost alone: median and
        interval."""
        own = self.costs[name].own
        low, high = own.interval("differences")
        return (
            1 + own.difference / self.step_seconds,
            1 + low / self.step_seconds,
            1 + high / self.step_seconds,
        )
