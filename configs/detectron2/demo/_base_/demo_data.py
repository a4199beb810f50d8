# The demo data as COCO data sets: 2000 training pictures of 160 x 160, batches of 8, no flips
# (a mirrored 2 is no 2).
#
# Command: python tools/make_demo_data.py
# Time:    15 s on 2 CPU cores
# Result:  data/lossweave_demo, 29 MB of pictures with 1 to 4 digits each
from detectron2.config import LazyCall as L
from detectron2.data import DatasetMapper, build_detection_test_loader
from detectron2.evaluation import COCOEvaluator
from omegaconf import OmegaConf

from lossweave.detectron2 import build_numbered_train_loader
from lossweave.detectron2.models.efficientnet_lite import demo_dicts

dataloader = OmegaConf.create()
dataloader.train = L(build_numbered_train_loader)(
    dataset=L(demo_dicts)(split='train'),
    mapper=L(DatasetMapper)(is_train=True, augmentations=[], image_format='RGB'),
    total_batch_size=8,
    aspect_ratio_grouping=False,
    num_workers=2,
    seed=0)
dataloader.test = L(build_detection_test_loader)(
    dataset=L(demo_dicts)(split='val'),
    mapper=L(DatasetMapper)(is_train=False, augmentations=[], image_format='RGB'),
    num_workers=2)
dataloader.evaluator = L(COCOEvaluator)(dataset_name='lossweave_demo_val')
