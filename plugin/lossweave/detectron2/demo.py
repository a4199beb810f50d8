"""The demo data and the small pretrained backbone for Detectron2's configs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog, get_detection_dataset_dicts
from detectron2.data.datasets import register_coco_instances
from detectron2.modeling import Backbone
from torch import Tensor, nn

from lossweave.demo.efficientnet_lite import EfficientNetLite0 as _EfficientNetLite0
from lossweave.errors import LossweaveError

__all__ = ["DEMO_ROOT", "EfficientNetLite0", "demo_dicts", "optimizer_groups"]

DEMO_ROOT = "data/lossweave_demo"


class EfficientNetLite0(_EfficientNetLite0, Backbone):
    """The demo backbone as a Detectron2 backbone; the keys of its state dict are the same.

    Its outputs are named as a ResNet's of the same strides: ``res2`` to ``res5`` for 4 to 32.

    Args:
        pretrained: load ImageNet weights now.
        out_indices: levels to return, ascending, each 1 to 4 (strides 4 to 32).
        frozen_stages: -1 nothing, 0 the stem, n in 1..7 the stem and the first n stages.
        norm_eval: keep every normalization layer on its stored statistics in training too.

    Raises:
        ValueError: an argument is out of its range.

    Example:
        >>> backbone = EfficientNetLite0(out_indices=(2, 3, 4))
        >>> {name: shape.channels for name, shape in backbone.output_shape().items()}
        {'res3': 40, 'res4': 112, 'res5': 320}
    """

    def __init__(
        self,
        pretrained: bool = False,
        out_indices: Sequence[int] = (2, 3, 4),
        frozen_stages: int = -1,
        norm_eval: bool = False,
    ) -> None:
        super().__init__(pretrained, out_indices, frozen_stages, norm_eval)
        names = [f"res{index + 1}" for index in self.out_indices]
        self._out_features = names
        self._out_feature_channels = dict(zip(names, self.channels, strict=True))
        self._out_feature_strides = dict(zip(names, self.strides, strict=True))

    def forward(self, x: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        """One feature map for each of ``out_indices``, by name."""
        return dict(zip(self._out_features, super().forward(x), strict=True))


def demo_dicts(split: str, root: str = DEMO_ROOT) -> list[dict[str, Any]]:
    """The data set dicts of the demo data, registered as ``lossweave_demo_<split>``.

    Args:
        split: 'train', 'val' or 'test'.
        root: the folder that ``tools/make_demo_data.py`` made.

    Raises:
        LossweaveError: the data are not there.
    """
    name, annotations = f"lossweave_demo_{split}", Path(root) / "annotations" / f"{split}.json"
    if not annotations.is_file():
        raise LossweaveError(f"there are no demo data in {root}; python tools/make_demo_data.py")
    if name in DatasetCatalog:
        DatasetCatalog.remove(name)
    register_coco_instances(name, {}, str(annotations), str(Path(root) / split))
    return get_detection_dataset_dicts(name, filter_empty=split == "train")


def optimizer_groups(
    model: nn.Module, base_lr: float, backbone_factor: float = 1.0
) -> list[dict[str, Any]]:
    """Parameter groups without weight decay of norms, and with a learning rate for the backbone.

    Args:
        model: a detector with a feature pyramid.
        base_lr: the learning rate.
        backbone_factor: what it is multiplied by below the pyramid.
    """
    below = {id(p) for p in model.backbone.bottom_up.parameters()}  # type: ignore[union-attr]
    norms = {
        id(p)
        for module in model.modules()
        if isinstance(module, (nn.BatchNorm2d, nn.GroupNorm))
        for p in module.parameters(recurse=False)
    }
    groups: dict[tuple[bool, bool], dict[str, Any]] = {}
    for parameter in model.parameters():
        if parameter.requires_grad:
            key = id(parameter) in below, id(parameter) in norms
            lr = base_lr * (backbone_factor if key[0] else 1.0)
            group = groups.setdefault(key, {"params": [], "lr": lr})
            group["params"].append(parameter)
            if key[1]:
                group["weight_decay"] = 0.0
    return list(groups.values())
