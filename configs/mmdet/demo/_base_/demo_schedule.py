# 500 iterations of AdamW, evaluated once at the end: two passes over the demo data in batches of 8.
# The learning rate rises for 100 iterations and falls along a cosine; the backbone's is half of it.
_base_ = 'mmdet::_base_/default_runtime.py'

max_iters = 500
train_cfg = dict(
    type='IterBasedTrainLoop', max_iters=max_iters, val_interval=max_iters)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=2e-3, weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0.0, custom_keys=dict(backbone=dict(lr_mult=0.5))),
    clip_grad=dict(max_norm=10))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.05, by_epoch=False, begin=0, end=100),
    dict(type='CosineAnnealingLR', eta_min_ratio=0.01, by_epoch=False, begin=100, end=max_iters),
]

default_hooks = dict(
    logger=dict(type='LoggerHook', interval=20),
    checkpoint=dict(type='lossweave.CheckpointHook', interval=max_iters, by_epoch=False))
log_processor = dict(window_size=20, by_epoch=False)
