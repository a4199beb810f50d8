"""The guide's recipe for experiment trackers: what the hook logs is in what they write."""

import json
from pathlib import Path

import pytest
from helpers.trackers import mlflow_scalars, recipes, tensorboard_scalars, wandb_scalars
from mmengine.config import Config

NAMES = ("term_cls", "term_loc", "weight_cls", "weight_loc", "loss")


def test_tensorboard_wandb_and_mlflow(
    make_config, train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # as the guide says
    monkeypatch.setenv("DO_NOT_TRACK", "true")
    cfg = make_config("retinanet", dict(type="UncertaintyWeighting"), iterations=2)
    recipe = recipes()[0]
    cfg.visualizer = Config.fromstring(recipe, ".py").visualizer
    cfg.visualizer.name = "trackers"  # MMEngine keeps visualizers by their names
    runner = train(cfg)
    runner.visualizer.close()
    type(runner.visualizer)._instance_dict.pop("trackers")

    (file,) = Path(cfg.work_dir).rglob("scalars.json")
    local = json.loads(file.read_text().splitlines()[-1])
    assert local["weight_cls"] == pytest.approx(0.5, abs=0.05) and local["term_loc"] > 0
    for found in (
        tensorboard_scalars(Path(cfg.work_dir)),
        wandb_scalars(Path(cfg.work_dir)),
        mlflow_scalars(tmp_path / "work_dirs" / "mlruns"),
    ):
        for name in NAMES:
            assert found[name] == pytest.approx(local[name], rel=1e-5), (name, found)
