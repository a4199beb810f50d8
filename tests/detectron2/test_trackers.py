"""The guide's recipe for experiment trackers: what the hook logs is in what they write."""

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.trackers import mlflow_scalars, recipes, tensorboard_scalars, wandb_scalars

NAMES = ("term_cls", "term_loc", "weight_cls", "weight_loc", "total_loss")


def test_tensorboard_wandb_and_mlflow(make_cfg, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # as the guide says
    monkeypatch.setenv("DO_NOT_TRACK", "true")
    made: dict[str, Any] = {}
    exec(recipes()[1], made)
    cfg = make_cfg("retinanet", dict(type="UncertaintyWeighting"), SOLVER__MAX_ITER=2)
    Path(cfg.OUTPUT_DIR).mkdir(parents=True)
    made["TrackedTrainer"](cfg).train()

    folder = Path(cfg.OUTPUT_DIR)
    lines = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    (local,) = (line for line in lines if "weight_cls" in line)
    assert local["weight_cls"] == pytest.approx(0.5, abs=0.05) and local["term_loc"] > 0
    for found in (
        tensorboard_scalars(folder),
        wandb_scalars(folder),
        mlflow_scalars(folder / "mlruns"),
    ):
        for name in NAMES:
            assert found[name] == pytest.approx(local[name], rel=1e-5), (name, found)
