"""The MMDetection adapter: detector, hook, data order, loops, stages.

Importing it registers everything in :mod:`lossweave.registry`.
"""

from lossweave.mmdet.box_errors import GrossBoxErrors
from lossweave.mmdet.checkpoints import CheckpointHook
from lossweave.mmdet.detector import CombinedLossDetector, CombinedLossMixin, combined_class
from lossweave.mmdet.draws import SeededBatchSampler
from lossweave.mmdet.hook import CombinerHook
from lossweave.mmdet.interrupt import SaveOnInterruptHook
from lossweave.mmdet.loops import EpochBasedTrainLoop, IterBasedTrainLoop
from lossweave.mmdet.models.efficientnet_lite import EfficientNetLite0
from lossweave.mmdet.models.nonapproximate import BoxGradientRoIExtractor, NonApproximateRPNHead
from lossweave.mmdet.models.ssd_head import SSDHead
from lossweave.mmdet.models.vgg import VGG, VGGBBoxHead
from lossweave.mmdet.rungs import RungHook
from lossweave.mmdet.staged.hooks import (
    FrozenHook,
    StageRecordHook,
    TrainableOptimWrapperConstructor,
)
from lossweave.mmdet.staged.network import StageDetector
from lossweave.mmdet.staged.training import StagedRunner
from lossweave.mmdet.staged.transforms import LoadFixedProposals
from lossweave.mmdet.weight_sample import WeightSampleHook

__all__ = [
    "VGG",
    "BoxGradientRoIExtractor",
    "CheckpointHook",
    "CombinedLossDetector",
    "CombinedLossMixin",
    "CombinerHook",
    "EfficientNetLite0",
    "EpochBasedTrainLoop",
    "FrozenHook",
    "GrossBoxErrors",
    "IterBasedTrainLoop",
    "LoadFixedProposals",
    "NonApproximateRPNHead",
    "RungHook",
    "SSDHead",
    "SaveOnInterruptHook",
    "SeededBatchSampler",
    "StageDetector",
    "StageRecordHook",
    "StagedRunner",
    "TrainableOptimWrapperConstructor",
    "VGGBBoxHead",
    "WeightSampleHook",
    "combined_class",
]
