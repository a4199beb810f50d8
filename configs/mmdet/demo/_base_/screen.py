# What a demo config takes over to become a screen config: 96 x 96 pixels, two levels, 440
# iterations, all in one process. retinanet_screen.py has the same data and schedule.
screen_root = 'data/lossweave_screen/'
screen_train = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=(96, 96), keep_ratio=True),
    dict(type='PackDetInputs',
         meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape')),
]
screen_test = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(96, 96), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='PackDetInputs',
         meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
screen_evaluation = dict(
    batch_size=32,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(data_root=screen_root, pipeline=screen_test))
screen = dict(
    backbone=dict(out_indices=(2, 3)),
    neck=dict(in_channels=[40, 112], num_outs=2),
    rpn_head=dict(anchor_generator=dict(scales=[1.8, 2.55], strides=[8, 16])),
    bbox_roi_extractor=dict(featmap_strides=[8, 16], finest_scale=14),
    optim_wrapper=dict(optimizer=dict(fused=True)),
    train_dataloader=dict(
        num_workers=0,
        persistent_workers=False,
        dataset=dict(data_root=screen_root, pipeline=screen_train)),
    evaluation=screen_evaluation,
    val_evaluator=dict(ann_file=screen_root + 'annotations/val.json'),
    test_evaluator=dict(ann_file=screen_root + 'annotations/test.json'),
    train_cfg=dict(max_iters=440, val_interval=440),
    param_scheduler=[
        dict(type='LinearLR', start_factor=0.05, by_epoch=False, begin=0, end=100),
        dict(type='CosineAnnealingLR', eta_min_ratio=0.01, by_epoch=False, begin=100, end=440),
    ],
    default_hooks=dict(checkpoint=dict(interval=440)))
