"""The terms' losses on held-out pictures."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.mmdet_toy import toy_config, write_data
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, MODELS, init_default_scope

from lossweave.errors import LossweaveError
from lossweave.studies.turns.term_losses import main, term_losses

_SIZE = 96  # not the pictures' own, so boxes have to follow


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, Path, Path]:
    """A config with a test split, as a file, and a checkpoint."""
    root = tmp_path_factory.mktemp("term_losses")
    cfg = toy_config("retinanet", write_data(root / "data", images=5), root / "run", "Sum")
    pipeline = [
        dict(type="LoadImageFromFile", backend_args=None),
        dict(type="Resize", scale=(_SIZE, _SIZE), keep_ratio=False),
        dict(type="LoadAnnotations", with_bbox=True),  # as stock configs have it: boxes unresized
        dict(type="PackDetInputs"),
    ]
    cfg.test_dataloader = dict(
        batch_size=2,
        num_workers=0,
        sampler=dict(type="DefaultSampler", shuffle=False),
        dataset={**cfg.train_dataloader.dataset, "pipeline": pipeline, "test_mode": True},
    )
    cfg.dump(str(root / "config.py"))
    init_default_scope("mmdet")
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    torch.save({"state_dict": model.state_dict()}, root / "weights.pth")
    return cfg, root / "config.py", root / "weights.pth"


def _by_hand(cfg: Config, checkpoint: Path) -> dict[str, float]:
    pipeline: list[dict[str, Any]] = list(cfg.test_dataloader.dataset.pipeline)
    pipeline[1], pipeline[2] = pipeline[2], pipeline[1]
    data = DATASETS.build({**cfg.test_dataloader.dataset, "pipeline": pipeline})
    model = MODELS.build(cfg.model).eval()
    model.load_state_dict(torch.load(checkpoint, weights_only=False)["state_dict"])
    totals = {"cls": 0.0, "loc": 0.0}
    for begin in (0, 2, 4):
        rows = [data[index] for index in range(begin, min(begin + 2, 5))]
        batch = model.data_preprocessor(pseudo_collate(rows), False)
        with torch.no_grad():
            losses = model(**batch, mode="loss")
        for term, name in (("cls", "loss_cls"), ("loc", "loss_bbox")):
            totals[term] += len(rows) / 5 * float(sum(losses[name]))
    return totals


def test_losses_of_boxes_that_follow_their_pictures(
    made: tuple[Config, Path, Path], tmp_path: Path
) -> None:
    cfg, config, checkpoint = made
    found = term_losses(str(config), checkpoint)
    assert found == pytest.approx(_by_hand(cfg, checkpoint), rel=1e-5)
    assert found["cls"] > 0 and found["loc"] > 0
    main([str(config), str(checkpoint), "--out", str(tmp_path / "x.json")])
    assert json.loads((tmp_path / "x.json").read_text()) == found


def test_a_checkpoint_of_another_detector(made: tuple[Config, Path, Path], tmp_path: Path) -> None:
    torch.save({"state_dict": {"backbone.other": torch.zeros(1)}}, tmp_path / "other.pth")
    with pytest.raises(LossweaveError, match="not of this detector"):
        term_losses(str(made[1]), tmp_path / "other.pth")


def test_no_such_split(made: tuple[Config, Path, Path]) -> None:
    with pytest.raises(LossweaveError, match="no val_dataloader"):
        term_losses(str(made[1]), made[2], split="val")
