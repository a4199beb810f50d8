# 500 iterations of AdamW, evaluated once at the end: two passes over the demo data in batches of 8.
# The learning rate rises for 100 iterations and falls along a cosine; the backbone's is half of it.
import torch
from detectron2.config import LazyCall as L
from detectron2.model_zoo import get_config
from detectron2.solver import WarmupParamScheduler
from fvcore.common.param_scheduler import CosineParamScheduler

from lossweave.detectron2.models.efficientnet_lite import optimizer_groups

train = get_config('common/train.py').train
train.init_checkpoint = ''
train.max_iter = train.eval_period = train.checkpointer.period = 500
train.seed = 0

optimizer = L(torch.optim.AdamW)(
    params=L(optimizer_groups)(base_lr='${..lr}', backbone_factor=0.5),
    lr=1e-3,
    weight_decay=0.05)
lr_multiplier = L(WarmupParamScheduler)(
    scheduler=L(CosineParamScheduler)(start_value=1.0, end_value=0.01),
    warmup_factor=0.05,
    warmup_length=100 / 500,
    warmup_method='linear')
