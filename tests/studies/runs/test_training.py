"""Trainings as processes: what is kept, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from lossweave.errors import LossweaveError, NonFiniteLossError
from lossweave.studies.runs.method import Method, Score, Trial
from lossweave.studies.runs.training import refuse_other_settings, train_and_test

#: As compare.py wrote it before trainings had a module of their own.
_KEPT = {
    "method": "Sum",
    "seed": 0,
    "val": 0.657,
    "test": 0.627,
    "test50": 0.879,
    "details": {
        "command": "python tools/train.py lossweave::mmdet/demo/retinanet_demo.py --work-dir "
        "out/Sum_seed0 --exact-resume --combiner Sum --cfg-options randomness.seed=0 "
        "train_cfg.max_iters=9 train_dataloader.num_workers=0",
        "seconds_per_iteration": 0.38,
        "weights": {"cls": 1.0, "loc": 1.0},
    },
}


def _kept(tmp_path: Path) -> None:
    (tmp_path / "Sum_seed0").mkdir()
    (tmp_path / "Sum_seed0" / "score.json").write_text(json.dumps(_KEPT))


def test_a_finished_training_is_kept(tmp_path: Path) -> None:
    _kept(tmp_path)
    options = ("train_cfg.max_iters=9", "val_dataloader.num_workers=2")  # workers change nothing
    score = train_and_test(Trial(Method("Sum"), 0, "none.py", str(tmp_path), options))
    assert score == Score(**_KEPT)  # type: ignore[arg-type]


def test_a_finished_training_of_another_kind_is_refused(tmp_path: Path) -> None:
    _kept(tmp_path)
    trial = Trial(Method("Sum"), 0, "none.py", str(tmp_path), ("train_cfg.max_iters=10",))
    with pytest.raises(LossweaveError, match=r"other --cfg-options .*max_iters=9"):
        train_and_test(trial)


def test_a_sweep_keeps_a_training_that_diverged(tmp_path: Path, monkeypatch) -> None:
    def diverge(words: list[str], log: Path, jobs: int) -> None:
        log.write_text("error: iteration 3: loss 'cls' is nan\n\n")
        raise NonFiniteLossError("a training failed")

    monkeypatch.setattr("lossweave.studies.runs.training.call", diverge)
    trial = Trial(Method("Sum"), 0, "mmdet::_base_/default_runtime.py", str(tmp_path), rate=9.0)
    score = train_and_test(trial)
    assert (score.val, score.test, score.rate) == (0.0, 0.0, 9.0)
    assert score.details["diverged"].startswith("error: iteration 3")
    assert train_and_test(trial) == score
    with pytest.raises(LossweaveError, match="failed"):
        train_and_test(replace(trial, rate=None))


def test_another_failure_ends_a_sweep(tmp_path: Path, monkeypatch) -> None:
    def fail(words: list[str], log: Path, jobs: int) -> None:
        log.write_text("error: no such file\n")
        raise LossweaveError("a training failed")

    monkeypatch.setattr("lossweave.studies.runs.training.call", fail)
    trial = Trial(Method("Sum"), 0, "mmdet::_base_/default_runtime.py", str(tmp_path), rate=9.0)
    with pytest.raises(LossweaveError, match="failed"):
        train_and_test(trial)


def test_settings_are_noted_and_kept_to(tmp_path: Path) -> None:
    refuse_other_settings(tmp_path, {"options": ("a=1",)})
    refuse_other_settings(tmp_path, {"options": ["a=1"]})
    with pytest.raises(LossweaveError, match="other settings"):
        refuse_other_settings(tmp_path, {"options": ["a=2"]})
