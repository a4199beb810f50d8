"""What a staged or a joint training left behind: ``record.json``, the same for every framework.

A record is written as the training goes: after every stage, proposal pass and evaluation, and
each time as a whole, so that an interruption leaves the last complete one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from statistics import median
from typing import Any

from lossweave.errors import LossweaveError
from lossweave.utils.files import write_atomically

__all__ = [
    "RECORD_FILE",
    "CurvePoint",
    "ProposalPass",
    "StageRecord",
    "TrainingRecord",
    "UnifiedRecord",
    "median_seconds",
]

#: The record's name in a work directory.
RECORD_FILE = "record.json"
KINDS = ("alternating", "joint")


def median_seconds(seconds: list[float]) -> float:
    """Median of iteration times in seconds; 0 where there are none.

    Example:
        >>> median_seconds([0.5, 0.1, 0.2])
        0.2
    """
    return float(median(seconds)) if seconds else 0.0


@dataclass(frozen=True)
class CurvePoint:
    """The losses at one logged iteration.

    Args:
        iteration: counted from 1 in its stage.
        seconds: training seconds of the stage until then.
        losses: by term, averaged over the logger's interval.
    """

    iteration: int
    seconds: float
    losses: dict[str, float]


@dataclass(frozen=True)
class ProposalPass:
    """One pass over the training set that fixed the proposals for a later stage.

    Args:
        seconds: how long it took, without its evaluation.
        images: images passed.
        per_image: mean proposals per image.
        file: the proposals, relative to the work directory.
        checksum: of the file's content; see :mod:`lossweave.staged.proposal_file`.
    """

    seconds: float
    images: int
    per_image: float
    file: str
    checksum: str


@dataclass
class StageRecord:
    """One stage of a training; joint training is one stage, ``joint``.

    Args:
        name: of the stage.
        parts: ``{"trained": [...], "frozen": [...]}``.
        iterations: of training.
        batch_size: images per iteration, over all processes.
        image_passes: images that went through a training step.
        optimizer_steps: updates of the weights.
        started: unix seconds.
        ended: unix seconds of the last session.
        seconds: of training alone, summed over resumed sessions.
        seconds_per_iteration: their median.
        peak_memory: bytes; of the accelerator, or of the process where there is none; None
            where it cannot be known.
        proposals: the pass at the end of this stage; None where no stage needs one.
        evaluation_seconds: of all evaluations of this stage.
        metrics: some of AP, AP50, AR@100, AR@300, AR@1000, each from 0 to 1.
        curve: the losses over the iterations.
    """

    name: str
    parts: dict[str, list[str]] = field(default_factory=lambda: {"trained": [], "frozen": []})
    iterations: int = 0
    batch_size: int = 0
    image_passes: int = 0
    optimizer_steps: int = 0
    started: float = 0.0
    ended: float = 0.0
    seconds: float = 0.0
    seconds_per_iteration: float = 0.0
    peak_memory: int | None = None
    proposals: ProposalPass | None = None
    evaluation_seconds: float = 0.0
    metrics: dict[str, float] = field(default_factory=dict)
    curve: list[CurvePoint] = field(default_factory=list)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> StageRecord:
        """The stage that ``dataclasses.asdict`` made plain."""
        found = {f.name: content[f.name] for f in fields(cls) if f.name in content}
        if found.get("proposals"):
            found["proposals"] = ProposalPass(**found["proposals"])
        found["curve"] = [CurvePoint(**point) for point in found.get("curve", [])]
        return cls(**found)


@dataclass(frozen=True)
class UnifiedRecord:
    """The one detector that a training ends in.

    Args:
        checkpoint: relative to the work directory.
        metrics: as in :class:`StageRecord`.
    """

    checkpoint: str
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass
class TrainingRecord:
    """A whole training, alternating or joint.

    Args:
        kind: 'alternating' or 'joint'.
        framework: 'mmdet' or 'detectron2'.
        config: the config's name.
        seed: of initial weights, data order and sampling.
        options: of the schedule, as configured.
        command: what was typed.
        machine: processor, cores, accelerator.
        versions: of the packages that decide the numbers.
        date: of the start, ISO 8601.
        stages: those begun, in order.
        unified: the final detector; None where there is none (yet).
        finished: whether the training has come to its end.

    Raises:
        LossweaveError: an unknown kind.

    Example:
        >>> record = TrainingRecord("joint", "mmdet", "faster-rcnn.py", seed=0)
        >>> record.stage("joint").iterations = 100
        >>> TrainingRecord.from_dict(record.as_dict()) == record
        True
    """

    kind: str
    framework: str
    config: str
    seed: int
    options: dict[str, Any] = field(default_factory=dict)
    command: str = ""
    machine: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    date: str = ""
    stages: list[StageRecord] = field(default_factory=list)
    unified: UnifiedRecord | None = None
    finished: bool = False

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise LossweaveError(f"record: kind={self.kind!r} should be one of {', '.join(KINDS)}")

    def stage(self, name: str) -> StageRecord:
        """The stage's record, begun if there is none yet."""
        for stage in self.stages:
            if stage.name == name:
                return stage
        self.stages.append(StageRecord(name))
        return self.stages[-1]

    @property
    def training_seconds(self) -> float:
        """Of all stages and proposal passes, without evaluations."""
        passes = sum(s.proposals.seconds for s in self.stages if s.proposals)
        return sum(s.seconds for s in self.stages) + passes

    @property
    def image_passes(self) -> int:
        """Images in training steps, without proposal passes."""
        return sum(s.image_passes for s in self.stages)

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, for JSON; a number that is not finite becomes None."""
        return _plain(asdict(self))

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> TrainingRecord:
        """The record that :meth:`as_dict` made plain.

        Raises:
            LossweaveError: something is missing.
        """
        try:
            found = {f.name: content[f.name] for f in fields(cls) if f.name in content}
            found["stages"] = [StageRecord.from_dict(s) for s in content.get("stages", [])]
            if found.get("unified"):
                found["unified"] = UnifiedRecord(**found["unified"])
            return cls(**found)
        except (TypeError, KeyError, AttributeError) as error:
            raise LossweaveError(f"this is no record of a training: {error}") from error

    def save(self, work_dir: str | Path) -> Path:
        """Write ``record.json`` in the work directory, as a whole; its path."""
        path = Path(work_dir) / RECORD_FILE
        text = json.dumps(self.as_dict(), indent=1, allow_nan=False)
        write_atomically(path, text.encode())
        return path

    @classmethod
    def load(cls, path: str | Path) -> TrainingRecord:
        """Read a record, by its path or by its work directory.

        Raises:
            LossweaveError: there is none, or the file is no record.
        """
        path = Path(path)
        if path.is_dir():
            path = path / RECORD_FILE
        try:
            content = json.loads(path.read_text())
        except FileNotFoundError:
            raise LossweaveError(f"there is no record {path}") from None
        except json.JSONDecodeError as error:
            raise LossweaveError(f"{path} is no JSON: {error}") from error
        if not isinstance(content, dict):
            raise LossweaveError(f"{path} is no record of a training")
        return cls.from_dict(content)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
