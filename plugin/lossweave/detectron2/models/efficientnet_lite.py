"""The demo data and the small pretrained backbone for Detectron2's configs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from detectron2.data import DatasetCatalog, get_detection_dataset_dicts
from detectron2.data.datasets import register_coco_instances
from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone
from torch import Tensor, nn

from lossweave.demo.efficientnet_lite import EfficientNetLite0 as _EfficientNetLite0
from lossweave.errors import LossweaveError

__all__ = ["DEMO_ROOT", "EfficientNetLite0", "demo_dicts", "optimizer_groups"]

DEMO_ROOT = "data/lossweave_demo"
_Value = TypeVar("_Value")


class EfficientNetLite0(_EfficientNetLite0, Backbone):
    """The demo backbone as a Detectron2 backbone; the keys of its state dict are the same.

    Its arguments are those of :class:`lossweave.demo.EfficientNetLite0`; its outputs are named as
    a ResNet's of the same strides, ``res2`` to ``res5`` for 4 to 32.

    Example:
        >>> backbone = EfficientNetLite0(out_indices=(2, 3, 4))
        >>> {name: shape.channels for name, shape in backbone.output_shape().items()}
        {'res3': 40, 'res4': 112, 'res5': 320}
    """

    def _named(self, values: Sequence[_Value]) -> dict[str, _Value]:
        return dict(zip((f"res{index + 1}" for index in self.out_indices), values, strict=True))

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Channels and stride of each of the outputs, by name."""
        shapes = zip(self.channels, self.strides, strict=True)
        return self._named([ShapeSpec(channels=c, stride=s) for c, s in shapes])

    def forward(self, x: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        """One feature map for each of ``out_indices``, by name."""
        return self._named(super().forward(x))


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
