"""What a diagnosis is asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lossweave.errors import LossweaveError
from lossweave.studies.diagnose.watch import Plan
from lossweave.studies.ledger.book import LedgerOptions

__all__ = ["ITERATIONS", "STAGES", "STILL", "Asked"]

#: Iterations where neither they nor stages are asked for.
ITERATIONS = 240
#: Batches after them on which the weights stand still.
STILL = 8
#: The stages of a training that can be named, as parts of its length.
STAGES = {"start": (0.0, 0.2), "middle": (0.4, 0.6), "end": (0.8, 1.0)}
#: The one stage of a training of which none is named.
WHOLE = "training"


@dataclass(frozen=True)
class Asked:
    """A diagnosis.

    Args:
        config: of either framework, a path or package::path.
        checkpoints: to begin from, a training each; none begins as the config says.
        iterations: of a training; None means the config's own length where stages are named, and
            else :data:`ITERATIONS`.
        interval: optimizer updates from look to look.
        stages: of :data:`STAGES`; none looks all the way.
        terms: 'task', 'head', 'loss', ... or patterns; None leaves the config's own.
        seed: of initial weights and data.
        work_dir: where everything is written; None means ``work_dirs/diagnose_<config>``.
        options: further ``--cfg-options``.
        ledger: where results are.
        command: the command that asked for it.

    Raises:
        LossweaveError: a value that means nothing.

    Example:
        >>> Asked("x.py", stages=("begin",))
        Traceback (most recent call last):
        ...
        lossweave.errors.LossweaveError: --stages: 'begin' should be one of start, middle, end
    """

    config: str
    checkpoints: tuple[str, ...] = ()
    iterations: int | None = None
    interval: int = 12
    stages: tuple[str, ...] = ()
    terms: Any = None
    seed: int = 0
    work_dir: str | None = None
    options: tuple[str, ...] = ()
    ledger: LedgerOptions = field(default_factory=LedgerOptions)
    command: str = "python tools/diagnose.py"

    def __post_init__(self) -> None:
        for name, value in (("iterations", self.iterations), ("interval", self.interval)):
            if value is not None and value < 1:
                raise LossweaveError(f"--{name}={value} should be at least 1")
        if not 0 <= self.seed < 2**32:
            raise LossweaveError(f"--seed={self.seed} should be from 0 to {2**32 - 1}")
        for stage in self.stages:
            if stage not in STAGES:
                raise LossweaveError(
                    f"--stages: {stage!r} should be one of {', '.join(STAGES)}"
                )
        if len(set(self.stages)) < len(self.stages):
            raise LossweaveError(f"--stages: {', '.join(self.stages)} names one twice")
        if self.stages and len(self.checkpoints) > 1:
            raise LossweaveError(
                "--stages goes with one checkpoint at most: several are stages themselves"
            )
        for checkpoint in self.checkpoints:
            if not Path(checkpoint).is_file():
                raise LossweaveError(f"there is no checkpoint {checkpoint!r}")
        names = [self.named(checkpoint) for checkpoint in self.checkpoints]
        if len(set(names)) < len(names):
            raise LossweaveError(f"--checkpoint: several are named {names[0]!r}; rename one")

    @staticmethod
    def named(checkpoint: str | None) -> str:
        """What the looks of a training from a checkpoint are called."""
        return WHOLE if checkpoint is None else f"from {Path(checkpoint).stem}"

    @property
    def folder(self) -> Path:
        """Where everything is written."""
        return Path(self.work_dir or f"work_dirs/diagnose_{Path(self.config).stem}")

    @property
    def limit(self) -> int | None:
        """Iterations of a training; None means the config's own length."""
        if self.iterations is None and not self.stages:
            return ITERATIONS
        return self.iterations

    @property
    def method(self) -> str:
        """What decides a diagnosis beside its config, in words."""
        parts = [
            "diagnosis",
            f"stages={','.join(self.stages)}" if self.stages else "",
            f"terms={self.terms}" if self.terms is not None else "",
            *(f"from={Path(checkpoint).name}" for checkpoint in self.checkpoints),
        ]
        return " ".join(part for part in parts if part)

    def plan(self, checkpoint: str | None, iterations: int) -> Plan:
        """When to look in a training of so many iterations.

        Raises:
            LossweaveError: the interval is too long for it.

        Example:
            >>> Asked("x.py", stages=("end",)).plan(None, 500).windows
            {'end': (400, 500)}
        """
        windows = {
            stage: (round(STAGES[stage][0] * iterations), round(STAGES[stage][1] * iterations))
            for stage in self.stages
        }
        windows = windows or {self.named(checkpoint): (0, iterations)}
        if not all(self._looks(*window) for window in windows.values()):
            raise LossweaveError(
                f"--interval={self.interval}: {iterations} iterations leave a stage without a "
                "look; make it smaller, or train longer"
            )
        return Plan(self.interval, windows)

    def _looks(self, first: int, end: int) -> int:
        return end // self.interval - first // self.interval
