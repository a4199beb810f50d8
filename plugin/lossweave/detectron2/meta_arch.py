"""The meta-architecture of yaml configs."""

from typing import Any

from detectron2.modeling import META_ARCH_REGISTRY
from torch import nn

from lossweave.detectron2.config_node import combination_options
from lossweave.detectron2.detector import combine_losses

__all__ = ["CombinedLossDetector"]


@META_ARCH_REGISTRY.register()
def CombinedLossDetector(cfg: Any) -> nn.Module:
    """The meta-architecture named by ``LOSSWEAVE.BASE_DETECTOR``, with its losses combined.

    For yaml configs: ``MODEL.META_ARCHITECTURE: CombinedLossDetector`` and a ``LOSSWEAVE`` node;
    see :func:`lossweave.detectron2.add_lossweave_config`.

    Raises:
        LossweaveError: no ``LOSSWEAVE`` node, an unknown detector, combiner or argument.
    """
    base, options = combination_options(cfg)
    return combine_losses(META_ARCH_REGISTRY.get(base)(cfg), **options)
