"""EfficientNet-Lite0 for MMDetection's configs: ``type='lossweave.EfficientNetLite0'``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.model import BaseModule

from lossweave.demo.efficientnet_lite import EfficientNetLite0 as _EfficientNetLite0
from lossweave.errors import LossweaveError
from lossweave.registry import MODELS

__all__ = ["EfficientNetLite0", "refuse_rois_of_channels_last"]


@MODELS.register_module()
class EfficientNetLite0(_EfficientNetLite0, BaseModule):
    """The demo backbone as an mmengine module; the keys of its state dict are the same.

    ImageNet weights are loaded by :meth:`init_weights`, which a Runner calls before it loads a
    checkpoint: so the checkpoint wins, and building a model to test it needs no weights package.

    Args:
        pretrained: Load ImageNet weights in ``init_weights``.
        out_indices: Levels to return, ascending, each 0 to 4 (strides 2 to 32).
        frozen_stages: -1 nothing, 0 the stem, n in 1..7 the stem and the first n stages.
        norm_eval: Keep every normalization layer on its stored statistics in training too.
        channels_last: Compute with channels last in memory, which a CPU does faster. Refused
            under mmcv's RoIAlign (:func:`refuse_rois_of_channels_last`).
        init_cfg: mmengine's initialization, in place of ``pretrained``.

    Raises:
        ValueError: An argument is out of its range, or both ``pretrained`` and ``init_cfg`` ask
            for the weights.

    Example:
        >>> backbone = MODELS.build(dict(type="lossweave.EfficientNetLite0", pretrained=True))
        >>> backbone.init_weights()
    """

    def __init__(
        self,
        pretrained: bool = False,
        out_indices: Sequence[int] = (2, 3, 4),
        frozen_stages: int = -1,
        norm_eval: bool = False,
        channels_last: bool = False,
        init_cfg: dict[str, Any] | list[dict[str, Any]] | None = None,
    ) -> None:
        if pretrained and init_cfg:
            raise ValueError(
                f"pretrained=True and init_cfg={init_cfg!r} both set the weights; give one of them"
            )
        # BaseModule comes next in the order of bases, so this sets up both of them
        super().__init__(
            out_indices=out_indices,
            frozen_stages=frozen_stages,
            norm_eval=norm_eval,
            channels_last=channels_last,
        )
        self.pretrained = pretrained
        self.init_cfg = init_cfg

    def init_weights(self) -> None:
        """Applies ``init_cfg`` or loads the ImageNet weights, the first time it is called."""
        first = not self.is_init
        super().init_weights()
        if first and self.pretrained:
            self.load_imagenet_weights()


def refuse_rois_of_channels_last(model: Mapping[str, Any]) -> None:
    """Refuse a detector of two stages whose backbone keeps channels last in memory.

    mmcv's RoIAlign on a CPU reads any memory as channels first, and gives wrong values without a
    word.

    Args:
        model: a config's.

    Raises:
        LossweaveError: it is such a one.

    Example:
        >>> refuse_rois_of_channels_last(dict(backbone=dict(channels_last=True), bbox_head=dict()))
    """
    backbone = model.get("backbone")
    last = isinstance(backbone, Mapping) and backbone.get("channels_last")
    if last and model.get("roi_head"):
        raise LossweaveError(
            "model.backbone: with channels_last=True mmcv's RoIAlign, which reads any memory as "
            "channels first, gives model.roi_head wrong values; leave it out"
        )
