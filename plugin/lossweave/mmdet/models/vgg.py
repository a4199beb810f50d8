"""VGG for two-stage detectors: its 13 or so convolutions below, its two wide layers in the head."""

from __future__ import annotations

from typing import Any

import torch
from mmcv.cnn import VGG as MMCV_VGG
from mmdet.models.roi_heads.bbox_heads import Shared2FCBBoxHead
from mmengine.logging import print_log
from mmengine.model import BaseModule
from mmengine.runner.checkpoint import CheckpointLoader
from torch import Tensor

from lossweave.registry import MODELS

__all__ = ["VGG", "VGGBBoxHead"]


@MODELS.register_module()
class VGG(MMCV_VGG, BaseModule):
    """MMCV's VGG as a backbone of MMDetection, its last convolution as the only level.

    ``SSDVGG``, the one VGG that MMDetection has, carries SSD's further layers.

    Args:
        depth: 11, 13, 16 or 19.
        frozen_stages: the first blocks of convolutions that are not trained; 2 in Fast and
            Faster R-CNN.
        out_indices: blocks whose outputs are returned, from 0 to 4.
        init_cfg: e.g. ``dict(type='Pretrained', checkpoint='torchvision://vgg16')``.

    Source: Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image
    Recognition", 2015.

    Example:
        >>> net = VGG(depth=11, frozen_stages=2)
        >>> [tuple(level.shape) for level in net(torch.zeros(1, 3, 32, 32))]
        [(1, 512, 2, 2)]
    """

    def __init__(
        self,
        depth: int = 16,
        frozen_stages: int = -1,
        out_indices: tuple[int, ...] = (4,),
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(
            depth, out_indices=out_indices, frozen_stages=frozen_stages, with_last_pool=False
        )
        self.init_cfg = init_cfg or dict(type="Kaiming", layer="Conv2d")
        self.train()  # MMCV freezes there; an optimizer that is built before should know

    def init_weights(self, pretrained: str | None = None) -> None:
        """MMEngine's, by ``init_cfg``."""
        BaseModule.init_weights(self)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """The levels of (n, 3, h, w) images."""
        levels = super().forward(x)
        return levels if isinstance(levels, tuple) else (levels,)

    def train(self, mode: bool = True) -> VGG:
        """Training mode, the first blocks excepted."""
        super().train(mode)
        return self


@MODELS.register_module()
class VGGBBoxHead(Shared2FCBBoxHead):
    """Two shared layers that may start as fc6 and fc7 of a classification network.

    Args:
        classifier: a checkpoint with ``classifier.0`` and ``classifier.3`` of torchvision's
            VGG, e.g. ``'torchvision://vgg16'``; None leaves them as drawn.
        kwargs: those of ``Shared2FCBBoxHead``; 512 channels, RoIs of 7 x 7 and layers of 4096
            are what fits.
    """

    def __init__(self, classifier: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.classifier = classifier

    def init_weights(self) -> None:
        """The predictors' by ``init_cfg``, the shared layers' from the classifier."""
        super().init_weights()
        if self.classifier is None:
            return
        found = CheckpointLoader.load_checkpoint(self.classifier, map_location="cpu")
        state = found.get("state_dict", found)
        with torch.no_grad():
            for layer, index in zip(self.shared_fcs, (0, 3), strict=True):
                layer.weight.copy_(state[f"classifier.{index}.weight"])
                layer.bias.copy_(state[f"classifier.{index}.bias"])
        print_log(f"fc6 and fc7 come from {self.classifier}", "current")
