# A smaller RetinaNet on demo data of 96 x 96, for questions that need many seeds.
# It stands in for retinanet_demo.py: the same scenes, backbone, losses and optimizer, with 0.36 of
# the pixels, two levels, one convolution a branch, and fewer iterations.
#
# Command: python tools/make_demo_data.py --root data/lossweave_screen --size 96
#          python tools/train.py configs/mmdet/demo/retinanet_screen.py
# Time:    38 s of one CPU core for the training, 2 s for the evaluation
# Result:  AP 0.391, AP50 0.709 on val with Sum (seed 0)
_base_ = './retinanet_demo.py'

data_root = 'data/lossweave_screen/'
max_iters = 440
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=(96, 96), keep_ratio=True),
    dict(type='PackDetInputs',
         meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape')),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(96, 96), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='PackDetInputs',
         meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
# Anchors shrink with the pictures; without workers, so that one core is enough. Channels last and
# the fused optimizer compute the same up to rounding in 0.6 of the time.
model = dict(
    backbone=dict(out_indices=(2, 3), channels_last=True),
    neck=dict(in_channels=[40, 112], num_outs=2),
    bbox_head=dict(
        stacked_convs=1,
        anchor_generator=dict(octave_base_scale=1.8, strides=[8, 16])))
in_process = dict(num_workers=0, persistent_workers=False)
train_dataloader = dict(dataset=dict(data_root=data_root, pipeline=train_pipeline), **in_process)
val_dataloader = dict(
    batch_size=32, dataset=dict(data_root=data_root, pipeline=test_pipeline), **in_process)
test_dataloader = dict(
    batch_size=32, dataset=dict(data_root=data_root, pipeline=test_pipeline), **in_process)
val_evaluator = dict(ann_file=data_root + 'annotations/val.json')
test_evaluator = dict(ann_file=data_root + 'annotations/test.json')

optim_wrapper = dict(optimizer=dict(fused=True))
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.05, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', eta_min_ratio=0.01, by_epoch=False, begin=50, end=max_iters),
]
default_hooks = dict(checkpoint=dict(interval=max_iters))
