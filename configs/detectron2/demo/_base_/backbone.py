# EfficientNet-Lite0 with ImageNet weights under a feature pyramid of 64 channels, strides 8 to 32.
from detectron2.config import LazyCall as L
from detectron2.modeling.backbone.fpn import FPN

from lossweave.detectron2.models.efficientnet_lite import EfficientNetLite0

backbone = L(FPN)(
    bottom_up=L(EfficientNetLite0)(
        pretrained=True, out_indices=(2, 3, 4), frozen_stages=1, norm_eval=True),
    in_features=['res3', 'res4', 'res5'],
    out_channels=64)
