"""An embedded detection data set and a small pretrained backbone; no framework is imported."""

from lossweave.demo.digits import DemoData, make_demo_data
from lossweave.demo.efficientnet_lite import EfficientNetLite0

__all__ = ["DemoData", "EfficientNetLite0", "make_demo_data"]
