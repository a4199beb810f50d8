"""MMDetection's SSD head, able to predict."""

from __future__ import annotations

from mmdet.models.dense_heads import SSDHead as _SSDHead

from lossweave.registry import MODELS

__all__ = ["SSDHead"]


@MODELS.register_module()
class SSDHead(_SSDHead):
    """The stock head with the attribute that the stock prediction looks for.

    MMDetection 3.3 asks every dense head whether its ``loss_cls`` brings an activation of
    its own. SSDHead computes its cross entropy without such a module and has no ``loss_cls``, so
    evaluating any SSD ends in an AttributeError (MMDetection's issue 11780). ``None`` says
    "no activation of its own". Losses, parameters and state dict keys are the stock head's.
    """

    loss_cls = None
