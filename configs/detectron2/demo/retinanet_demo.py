# The small RetinaNet on the demo data, its losses combined.
#
# Command: python tools/make_demo_data.py
#          python tools/train.py configs/detectron2/demo/retinanet_demo.py
# Time:    4.5 minutes on one of 2 CPU cores
# Result:  AP 0.605, AP50 0.856 on val with Sum
# Another combiner: --combiner NAME, or `combiner` below.
from detectron2.config import LazyCall as L

from lossweave.combiners import Sum
from lossweave.detectron2 import combine_losses

from ._base_.demo_data import dataloader
from ._base_.demo_schedule import lr_multiplier, optimizer, train
from ._base_.retinanet_efficientnet_lite0 import model

model = L(combine_losses)(model=model, combiner=L(Sum)())
