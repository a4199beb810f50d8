"""What a training left behind: its scalars as a typed record, and that record as JSON."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from lossweave.errors import LossweaveError

__all__ = ["RunRecord", "Series", "TermHistory", "read_run", "read_scalars"]

_METRIC = "coco/bbox_mAP"


@dataclass(frozen=True)
class Series:
    """A logged number over the iterations.

    Args:
        steps: iterations, ascending, counted from 1.
        values: one number per step.
    """

    steps: tuple[int, ...]
    values: tuple[float, ...]

    @property
    def last(self) -> float:
        """The final value; nan where nothing was logged."""
        return self.values[-1] if self.values else float("nan")


@dataclass(frozen=True)
class TermHistory:
    """One term of a training.

    Args:
        value: the term's raw value, as logged.
        weight: its weight in the combined gradient.
    """

    value: Series
    weight: Series


@dataclass(frozen=True)
class RunRecord:
    """One finished training.

    Args:
        combiner: the combiner's name.
        iterations: the last logged iteration.
        terms: by the term's name, its history.
        metrics: the evaluation's numbers by the framework's names, e.g. 'coco/bbox_mAP_50'.
        seconds_per_iteration: median of the framework's iteration time, which includes waiting
            for data and no evaluation.
        seconds_for_data: median part of that spent waiting for data.
        details: what else is known, e.g. seed, command, wall time.
    """

    combiner: str
    iterations: int
    terms: dict[str, TermHistory]
    metrics: dict[str, float]
    seconds_per_iteration: float
    seconds_for_data: float
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def ap(self) -> float:
        """COCO AP, averaged over IoU .50:.95; nan without an evaluation."""
        return self.metrics.get(_METRIC, float("nan"))

    @property
    def ap50(self) -> float:
        """COCO AP at IoU .50; nan without an evaluation."""
        return self.metrics.get(f"{_METRIC}_50", float("nan"))

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "RunRecord":
        """The record that :meth:`as_dict` wrote.

        Example:
            >>> run = RunRecord("Sum", 0, {}, {}, 0.5, 0.0)
            >>> RunRecord.from_dict(run.as_dict()) == run
            True
        """
        terms = {
            name: TermHistory(**{part: _series(points) for part, points in history.items()})
            for name, history in content["terms"].items()
        }
        return cls(**{**content, "terms": terms})


def read_scalars(paths: Sequence[str | Path]) -> list[dict[str, float]]:
    """The rows of one training's ``scalars.json`` files, in order of iterations.

    A resumed training has a file per start. What an interrupted part logged beyond the
    checkpoint that it was resumed from did not happen for the final weights, so it is left out.

    Args:
        paths: the files in the order in which they were written, one JSON object a line.

    Raises:
        LossweaveError: a line is no JSON.
    """
    rows: list[dict[str, float]] = []
    for path in paths:
        part = []
        for number, line in enumerate(Path(path).read_text().splitlines(), start=1):
            if not line.strip():
                continue
            try:
                part.append(json.loads(line))
            except ValueError as error:
                raise LossweaveError(f"{path}, line {number}: not a JSON object") from error
        trained = [row["step"] for row in part if "loss" in row]
        if trained:
            rows = [row for row in rows if row["step"] < trained[0]]
        rows += part
    return rows


def read_run(work_dir: str | Path, combiner: str, **details: Any) -> RunRecord:
    """The record of the training in an MMEngine work directory.

    Args:
        work_dir: the directory that holds ``<timestamp>/vis_data/scalars.json``.
        combiner: the combiner's name.
        details: kept as they are.

    Raises:
        LossweaveError: nothing was logged there.
    """
    paths = sorted(Path(work_dir).glob("*/vis_data/scalars.json"))
    rows = read_scalars(paths)
    training = [row for row in rows if "loss" in row]
    if not training:
        raise LossweaveError(f"{work_dir} holds no logged training iteration")
    names = [key.removeprefix("term_") for key in training[-1] if key.startswith("term_")]
    terms = {
        name: TermHistory(_column(training, f"term_{name}"), _column(training, f"weight_{name}"))
        for name in names
    }
    metrics: dict[str, float] = {}
    for row in rows:
        if "loss" not in row:
            metrics = {key: value for key, value in row.items() if "/" in key}
    return RunRecord(
        combiner=combiner,
        iterations=int(training[-1]["step"]),
        terms=terms,
        metrics=metrics,
        seconds_per_iteration=_median(training, "time"),
        seconds_for_data=_median(training, "data_time"),
        details=details,
    )


def _column(rows: Sequence[Mapping[str, float]], key: str) -> Series:
    points = [(int(row["step"]), float(row[key])) for row in rows if key in row]
    return Series(tuple(step for step, _ in points), tuple(value for _, value in points))


def _median(rows: Sequence[Mapping[str, float]], key: str) -> float:
    values = [row[key] for row in rows if key in row]
    return median(values) if values else float("nan")


def _series(points: Mapping[str, Sequence[Any]]) -> Series:
    values = (float("nan") if value is None else value for value in points["values"])
    return Series(tuple(points["steps"]), tuple(values))
