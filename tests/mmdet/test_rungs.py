"""A training cut into rungs is the uncut one: the same weights, the same detections."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.mmdet_support import assert_same
from helpers.mmdet_toy import evaluation_dataset
from mmengine.runner import Runner

from lossweave.errors import LossweaveError
from lossweave.mmdet.rungs import RungHook

NEVER = 10**9


def _config(make_config: Any, name: str, at: list[int], by_epoch: bool, resume: bool) -> Any:
    cfg = make_config("retinanet", "Sum", name, iterations=2 if by_epoch else 5, by_epoch=by_epoch)
    cfg.val_cfg = dict(type="ValLoop")
    dataset = evaluation_dataset(cfg)
    annotations = str(Path(dataset["data_root"]) / dataset["ann_file"])
    cfg.val_evaluator = dict(type="CocoMetric", ann_file=annotations, metric="bbox")
    cfg.val_dataloader = dict(
        batch_size=4, num_workers=0, dataset=dataset,
        sampler=dict(type="DefaultSampler", shuffle=False),
    )  # fmt: skip
    cfg.model.test_cfg.score_thr = 0.0
    cfg.train_cfg.val_begin = NEVER
    cfg.default_hooks.checkpoint = dict(
        type="lossweave.CheckpointHook", interval=NEVER, by_epoch=by_epoch, save_last=False
    )
    cfg.default_hooks.rungs = dict(type="lossweave.RungHook", at=at)
    cfg.resume = resume
    return cfg


def _detections(folder: Path, rung: int) -> Any:
    return json.loads((folder / f"rung_{rung}.bbox.json").read_text())


@pytest.mark.parametrize("by_epoch", [False, True])
def test_rungs_are_those_of_the_whole_training(make_config, tmp_path: Path, by_epoch: bool) -> None:
    rungs = [1, 2] if by_epoch else [2, 3, 5]
    whole = Runner.from_cfg(_config(make_config, "whole", rungs, by_epoch, False))
    whole.train()
    for number, rung in enumerate(rungs):
        cut = Runner.from_cfg(_config(make_config, "cut", [rung], by_epoch, number > 0))
        cut.train()
        assert (cut.epoch if by_epoch else cut.iter) == rung
        folder = tmp_path / "cut"
        name = f"{'epoch' if by_epoch else 'iter'}_{rung}.pth"
        assert Path((folder / "last_checkpoint").read_text()).name == name
        found = _detections(folder, rung)
        assert found and found == _detections(tmp_path / "whole", rung)
    assert cut.iter == whole.iter
    assert_same(whole.model.state_dict(), cut.model.state_dict())
    # Between its ends the whole training was not saved, and its schedule was that of the cut one.
    assert len(list((tmp_path / "whole").glob("*.pth"))) == 1
    assert whole.optim_wrapper.get_lr() == cut.optim_wrapper.get_lr()


def test_what_stopped_in_its_evaluation_is_evaluated(make_config, tmp_path: Path) -> None:
    Runner.from_cfg(_config(make_config, "run", [2], False, False)).train()
    found = _detections(tmp_path / "run", 2)
    (tmp_path / "run" / "rung_2.bbox.json").unlink()
    again = Runner.from_cfg(_config(make_config, "run", [2], False, True))
    before = torch.load(tmp_path / "run" / "iter_2.pth", weights_only=False)["state_dict"]
    again.train()
    assert again.iter == 2 and _detections(tmp_path / "run", 2) == found
    assert_same(before, again.model.state_dict())


@pytest.mark.parametrize("at", [[], [0], [2, 1], [1, 1], [1.5], [True], "12"])
def test_rungs_that_are_none(at: Any) -> None:
    with pytest.raises(LossweaveError, match="whole numbers above 0"):
        RungHook(at)
