"""The MMDetection adapter: detector, hook, data order, loops.

Importing it registers everything in :mod:`lossweave.registry`.
"""

from lossweave.mmdet.backbone import EfficientNetLite0
from lossweave.mmdet.detector import CombinedLossDetector, CombinedLossMixin, combined_class
from lossweave.mmdet.draws import SeededBatch, SeededBatchSampler
from lossweave.mmdet.hook import CombinerHook
from lossweave.mmdet.interrupt import SaveOnInterruptHook
from lossweave.mmdet.loops import EpochBasedTrainLoop, IterBasedTrainLoop
from lossweave.mmdet.ssd_head import SSDHead
from lossweave.mmdet.weight_sample import WeightSampleHook

__all__ = [
    "CombinedLossDetector",
    "CombinedLossMixin",
    "CombinerHook",
    "EfficientNetLite0",
    "EpochBasedTrainLoop",
    "IterBasedTrainLoop",
    "SSDHead",
    "SaveOnInterruptHook",
    "SeededBatch",
    "SeededBatchSampler",
    "WeightSampleHook",
    "combined_class",
]
