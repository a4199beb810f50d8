"""What a study of staged training needs to know of a config, whichever framework it is for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from lossweave.errors import LossweaveError
from lossweave.host.paths import framework_of
from lossweave.mmdet.configs import load_config
from lossweave.staged.stages import Schedule
from lossweave.studies.runs.training import parsed_options, serial_loading

__all__ = ["StagedConfig", "read_staged"]

#: What of a config is about showing and keeping, not about training.
_SHOWN = ("default_hooks", "log_processor", "visualizer", "vis_backends", "log_level")


@dataclass(frozen=True)
class StagedConfig:
    """A config of a training in stages.

    Args:
        schedule: that of the config's type.
        joint: that of joint training by the same config.
        batch: images per iteration where a budget names none.
        told: what the config says about training, as text.
        seed: the option that sets the seed.
        loading: options that load data without workers, where there is no GPU to keep busy.
    """

    schedule: Schedule
    joint: Schedule
    batch: int
    told: str
    seed: str
    loading: tuple[str, ...]


def read_staged(config: str, options: Sequence[str] = ()) -> StagedConfig:
    """Read a config of either framework.

    Args:
        config: its name.
        options: ``--cfg-options``; those of ``told`` and ``loading`` are the config's alone.

    Raises:
        LossweaveError: there is none, or it has no schedule of two-stage training and a joint
            budget.
    """
    return (_mmdet if framework_of(config) == "mmdet" else _detectron2)(config, options)


def _mmdet(config: str, options: Sequence[str]) -> StagedConfig:
    from lossweave.mmdet.staged.configs import schedule_of

    cfg = load_config(config, parsed_options(options))
    _check(config, cfg)
    schedule = schedule_of(cfg)
    cfg.schedule.type = "joint"
    content = load_config(config).to_dict()
    return StagedConfig(
        schedule=schedule,
        joint=schedule_of(cfg),
        batch=int(cfg.train_dataloader.get("batch_size", 1)),
        told=repr({key: value for key, value in sorted(content.items()) if key not in _SHOWN}),
        seed="randomness.seed",
        loading=serial_loading(config),
    )


def _detectron2(config: str, options: Sequence[str]) -> StagedConfig:
    from lossweave.detectron2 import configs
    from lossweave.detectron2.staged.configs import described, plan_of

    cfg = configs.load_config(config, options)
    if "LOSSWEAVE" in cfg:
        raise LossweaveError(f"{config}: in Detectron2 this study takes a LazyConfig")
    _check(config, cfg)
    schedule = plan_of(cfg).schedule
    cfg.schedule.type = "joint"
    splits = () if torch.cuda.is_available() else ("train", "test")
    return StagedConfig(
        schedule=schedule,
        joint=plan_of(cfg).schedule,
        batch=int(cfg.dataloader.train.total_batch_size),
        told=repr(sorted(described(configs.load_config(config)).items())),
        seed="train.seed",
        loading=tuple(f"dataloader.{split}.num_workers=0" for split in splits),
    )


def _check(config: str, cfg: Mapping[str, Any]) -> None:
    if "schedule" not in cfg:
        raise LossweaveError(f"{config} has no `schedule`, so there is nothing to alternate")
    if cfg["schedule"].get("type") == "joint":
        raise LossweaveError(f"{config}: its schedule is joint; name the alternating one")
    if "joint" not in cfg["schedule"]:
        raise LossweaveError(f"{config}: schedule.joint=dict(iterations=...) is missing")
