"""The Detectron2 adapter: detector, configs, hook, data order, trainers, stages.

Importing it registers the meta-architecture ``CombinedLossDetector``.
"""

from lossweave.detectron2.config_node import add_lossweave_config
from lossweave.detectron2.configs import load_config
from lossweave.detectron2.detector import CombinedLossMixin, combine_losses, combined_class
from lossweave.detectron2.draws import NumberedLoader, build_numbered_train_loader
from lossweave.detectron2.hook import CombinerHook
from lossweave.detectron2.interrupt import SaveOnInterruptHook
from lossweave.detectron2.meta_arch import CombinedLossDetector
from lossweave.detectron2.staged.training import StagedAdapter
from lossweave.detectron2.yaml import Trainer

__all__ = [
    "CombinedLossDetector",
    "CombinedLossMixin",
    "CombinerHook",
    "NumberedLoader",
    "SaveOnInterruptHook",
    "StagedAdapter",
    "Trainer",
    "add_lossweave_config",
    "build_numbered_train_loader",
    "combine_losses",
    "combined_class",
    "load_config",
]
