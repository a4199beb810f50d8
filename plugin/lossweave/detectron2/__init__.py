"""The Detectron2 adapter: detector, configs, hook, data order, trainers, stages.

Importing it registers the meta-architecture ``CombinedLossDetector``.
"""

from lossweave.detectron2.configs import add_lossweave_config, load_config
from lossweave.detectron2.detector import CombinedLossMixin, combine_losses, combined_class
from lossweave.detectron2.draws import NumberedLoader, build_numbered_train_loader
from lossweave.detectron2.hook import CombinerHook
from lossweave.detectron2.lazy import SaveOnInterruptHook, Trainer
from lossweave.detectron2.staged.training import StagedAdapter

__all__ = [
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
