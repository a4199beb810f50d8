# A smaller SSD on demo data of 96 x 96, for questions that need many seeds. It stands in for
# ssd_demo.py: the same scenes, backbone, losses and optimizer, with 0.36 of the pixels.
#
# Command: python tools/make_demo_data.py --root data/lossweave_screen --size 96
#          python tools/train.py configs/mmdet/demo/ssd_screen.py
# Result:  AP 0.424, AP50 0.714 on val with Sum (seed 0)
_base_ = ['./ssd_demo.py', './_base_/screen.py']

model = dict(
    backbone=dict(_base_.screen.backbone, channels_last=True),
    bbox_head=dict(
        anchor_generator=dict(min_sizes=[16, 26, 40], max_sizes=[26, 40, 60])))
train_dataloader = _base_.screen.train_dataloader
val_dataloader = _base_.screen.evaluation
test_dataloader = _base_.screen.evaluation
val_evaluator = _base_.screen.val_evaluator
test_evaluator = _base_.screen.test_evaluator
optim_wrapper = dict(optimizer=dict(lr=3e-3, fused=True))
# It learns more slowly than the others, and takes a higher rate.
train_cfg = dict(_base_.screen.train_cfg, max_iters=640, val_interval=640)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.05, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', eta_min_ratio=0.01, by_epoch=False, begin=50, end=640),
]
default_hooks = dict(checkpoint=dict(interval=640))
