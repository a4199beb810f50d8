"""A staged training of the shrunk Faster R-CNN: a second or two a stage."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, RUNNERS

from helpers.mmdet_toy import evaluation_dataset, toy_config
from lossweave.staged import TrainingRecord


def staged_config(data: Path, work_dir: Path, **overrides: Any) -> Config:
    """A config of four stages of three iterations, with flips, resizes and weight decay."""
    cfg = toy_config("faster_rcnn", data, work_dir)
    dataset = evaluation_dataset(cfg)
    # Half as large again, so that proposals have to follow.
    cfg.train_dataloader.dataset.pipeline[2].scale = (96, 80)
    for split in ("val", "test"):
        cfg[f"{split}_dataloader"] = dict(
            batch_size=4,
            num_workers=0,
            sampler=dict(type="DefaultSampler", shuffle=False),
            dataset=dataset,
        )
        cfg[f"{split}_evaluator"] = dict(
            type="CocoMetric",
            ann_file=str(data / "annotations.json"),
            metric="bbox",
            outfile_prefix=str(work_dir / split),
        )
        cfg[f"{split}_cfg"] = dict(type=f"{split.capitalize()}Loop")
    cfg.model.test_cfg.rcnn.score_thr = 0.0  # an untrained detector detects something, too
    cfg.model.test_cfg.rpn.max_per_img = 40
    cfg.runner_type = "lossweave.StagedRunner"
    budget = dict(iterations=3, batch_size=2, lr=0.01, drops=[2])
    cfg.schedule = dict(type="four_step", rpn=budget, rcnn=budget, joint=budget)
    cfg.proposals = dict(max_per_img=60, min_bbox_size=4)
    cfg.evaluation = dict(split="test", recall=[10, 100])
    cfg.default_hooks.checkpoint.interval = 2
    cfg.merge_from_dict({k.replace("__", "."): v for k, v in overrides.items()})
    return cfg


@contextmanager
def quick() -> Iterator[None]:
    """Without what takes most of the time of so small trainings, which says nothing here."""
    with pytest.MonkeyPatch.context() as patch:
        # every Runner and checkpoint lays out its config's text prettily
        patch.setattr("yapf.yapflib.yapf_api.FormatCode", lambda text, **_: (text, True))
        yield


def train_stages(cfg: Config, resume: bool = False) -> TrainingRecord:
    """Train as the tools do."""
    cfg.resume = resume
    return RUNNERS.build(cfg).train()


def weights(path: Path) -> dict[str, torch.Tensor]:
    """The state dict in a file."""
    return torch.load(path, weights_only=False)["state_dict"]


@HOOKS.register_module(force=True)
class StopIn(Hook):
    """Raises in one iteration of one stage, before its checkpoint is written."""

    priority = "NORMAL"

    def __init__(self, stage: str, iteration: int) -> None:
        self.stage, self.iteration = stage, iteration

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if Path(runner.work_dir).name == self.stage and runner.iter == self.iteration:
            raise RuntimeError("power cut")


@HOOKS.register_module(force=True)
class InterruptIn(StopIn):
    """Ctrl-C in one iteration of one stage."""

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if Path(runner.work_dir).name == self.stage and runner.iter == self.iteration:
            os.kill(os.getpid(), signal.SIGINT)


@HOOKS.register_module(force=True)
class Perturb(Hook):
    """Moves one number of a module in training."""

    def __init__(self, stage: str, path: str) -> None:
        self.stage, self.path = stage, path

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if Path(runner.work_dir).name == self.stage:
            dict(runner.model.named_buffers())[self.path].view(-1)[0] += 1e-3
