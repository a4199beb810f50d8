"""Models of MMDetection's zoo."""

import copy
from typing import Any

from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.registry import init_default_scope
from torch import Tensor, nn

from lossweave.mmdet.configs import with_combiner
from lossweave.studies.zoo.mmdet_batches import batch_for

__all__ = ["MMDetectionModel", "content"]

#: Regions of an image that a second stage trains on, at most: what it costs is mostly theirs.
_REGIONS = 16


def content(path: str) -> Any:
    """What of a config decides its model; None where it has none."""
    model = Config.fromfile(path).get("model")
    return model.to_dict() if model else None


class MMDetectionModel:
    """A config of MMDetection's, without pretrained weights.

    Args:
        path: where it is.
    """

    def __init__(self, path: str) -> None:
        self.cfg = Config.fromfile(path)
        init_default_scope(self.cfg.get("default_scope", "mmdet"))
        _small(self.cfg.model)

    def stock(self) -> nn.Module:
        """The config's own model, with its initial weights."""
        model = MODELS.build(copy.deepcopy(self.cfg.model))
        model.init_weights()
        return model

    def combined(self, combiner: str, **options: Any) -> nn.Module:
        """The same as ``tools/train.py --combiner`` makes it, with ``--combiner-options``."""
        return MODELS.build(with_combiner(copy.deepcopy(self.cfg), combiner, options).model)

    def losses(self, model: Any, size: int) -> tuple[dict[str, Any], Tensor]:
        """The losses of two random images, and what MMEngine runs backward on."""
        hub = MessageHub.get_current_instance()
        for name in ("iter", "epoch"):  # some preprocessors and heads ask for them
            hub.update_info(name, 0)
        batch = model.data_preprocessor(batch_for(self.cfg, size), True)
        losses = model(**batch, mode="loss")
        total, _ = model.parse_losses(losses)
        return {name: value for name, value in losses.items() if "loss" in name}, total


def _small(value: Any) -> None:
    """Take pretrained weights, and what only costs time, out of a model's config. In place."""
    if isinstance(value, dict):
        if isinstance(value.get("num"), int) and "pos_fraction" in value:  # a sampler of regions
            value["num"] = min(value["num"], _REGIONS)
        if value.get("type") == "Detectron2Wrapper":  # which takes a GPU, and fetches weights
            heads = value["detector"]["roi_heads"]
            heads["batch_size_per_image"] = min(heads["batch_size_per_image"], _REGIONS)
            value["detector"].update(device="cpu", weights="")
        init = value.get("init_cfg")
        if isinstance(init, dict) and "Pretrained" in str(init.get("type")):
            value["init_cfg"] = None
        for name in ("pretrained", "load_from", "teacher_ckpt"):
            if isinstance(value.get(name), str):
                value[name] = None
        if value.get("batch_augments"):
            value["batch_augments"] = [
                one for one in value["batch_augments"] if "FixedSizePad" not in str(one.get("type"))
            ]
        for item in value.values():
            _small(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _small(item)
