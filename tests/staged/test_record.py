"""The record of a training, written as a whole and read again."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from lossweave.errors import LossweaveError
from lossweave.staged import (
    CurvePoint,
    ProposalPass,
    StageRecord,
    TrainingRecord,
    UnifiedRecord,
)
from lossweave.staged.record import median_seconds


def _record() -> TrainingRecord:
    stage = StageRecord(
        "rpn1",
        parts={"trained": ["rpn_head"], "frozen": ["backbone"]},
        iterations=4,
        batch_size=2,
        image_passes=8,
        seconds=3.0,
        proposals=ProposalPass(1.5, 12, 99.5, "rpn1/proposals.npz", "abc"),
        metrics={"AR@100": 0.5},
        curve=[CurvePoint(2, 1.0, {"rpn_cls": 0.7})],
    )
    return TrainingRecord(
        "alternating", "mmdet", "c.py", 3, options={"drops": [1, 2]}, stages=[stage],
        unified=UnifiedRecord("unified.pth", {"AP": 0.25}),
    )  # fmt: skip


def test_round_trip(tmp_path: Path) -> None:
    record = _record()
    path = record.save(tmp_path)
    assert path.name == "record.json" and [p.name for p in tmp_path.iterdir()] == ["record.json"]
    assert TrainingRecord.load(tmp_path) == TrainingRecord.load(path) == record
    assert record.training_seconds == 4.5 and record.image_passes == 8


def test_schema(tmp_path: Path) -> None:
    """The names that other tools read."""
    content = json.loads(_record().save(tmp_path).read_text())
    assert set(content) == {
        "kind", "framework", "config", "seed", "options", "command", "machine", "versions",
        "date", "stages", "unified", "finished",
    }  # fmt: skip
    assert set(content["stages"][0]) == {
        "name", "parts", "iterations", "batch_size", "image_passes", "optimizer_steps", "started",
        "ended", "seconds", "seconds_per_iteration", "peak_memory", "proposals",
        "evaluation_seconds", "metrics", "curve",
    }  # fmt: skip
    assert content["stages"][0]["curve"][0] == {
        "iteration": 2, "seconds": 1.0, "losses": {"rpn_cls": 0.7},
    }  # fmt: skip


def test_not_finite_becomes_null(tmp_path: Path) -> None:
    record = _record()
    record.stages[0].metrics["AR@100"] = float("nan")
    assert json.loads(record.save(tmp_path).read_text())["stages"][0]["metrics"]["AR@100"] is None


def test_stages_are_begun_once() -> None:
    record = _record()
    assert record.stage("rpn1") is record.stages[0]
    assert record.stage("rcnn1") is record.stages[1] and len(record.stages) == 2


def test_wrong_files(tmp_path: Path) -> None:
    with pytest.raises(LossweaveError, match="there is no record"):
        TrainingRecord.load(tmp_path)
    path = tmp_path / "record.json"
    for content, message in (("{", "is no JSON"), ("[]", "is no record"), ("{}", "no record")):
        path.write_text(content)
        with pytest.raises(LossweaveError, match=message):
            TrainingRecord.load(path)
    with pytest.raises(LossweaveError, match="kind='both'"):
        replace(_record(), kind="both")


def test_median() -> None:
    assert median_seconds([]) == 0 and median_seconds([3.0, 1.0, 2.0]) == 2.0
