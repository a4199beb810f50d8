# RetinaNet R50-FPN on COCO as a LazyConfig, its losses combined; the stock config otherwise.
# Detectron2's own tools/lazyconfig_train_net.py takes it, too.
#
# Command: python tools/train.py configs/detectron2/retinanet/retinanet_R_50_FPN_1x_coco.py \
#              --num-gpus 8
# Result:  with Sum the stock training
# Another combiner: --combiner NAME, or `combiner` below.
from detectron2.config import LazyCall as L
from detectron2.model_zoo import get_config

from lossweave.combiners import Sum
from lossweave.detectron2 import build_numbered_train_loader, combine_losses

_stock = get_config('COCO-Detection/retinanet_R_50_FPN_1x.py')
dataloader, lr_multiplier = _stock.dataloader, _stock.lr_multiplier
optimizer, train = _stock.optimizer, _stock.train

model = L(combine_losses)(model=_stock.model, combiner=L(Sum)())
dataloader.train._target_ = build_numbered_train_loader
