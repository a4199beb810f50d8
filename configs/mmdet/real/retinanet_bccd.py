# The small RetinaNet on photographs of blood cells (BCCD: 364 pictures, 3 classes) at 320 x 240.
#
# Command: git clone https://github.com/Shenggan/BCCD_Dataset && mv BCCD_Dataset/BCCD data/BCCD
#          python tools/prepare_voc.py data/BCCD
#          python tools/train.py configs/mmdet/real/retinanet_bccd.py
#          (elsewhere: the environment's BCCD=path/of/BCCD, where annotations/ is)
# Time:    2.5 minutes of one CPU core
# Result:  AP 0.512, AP50 0.881 on val with Sum (seed 0)
_base_ = '../demo/retinanet_demo.py'

data_root = '{{$BCCD:data/BCCD}}/'
metainfo = dict(classes=('Platelets', 'RBC', 'WBC'))
max_iters = 300
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=(320, 240), keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs',
         meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'flip',
                    'flip_direction')),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(320, 240), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='PackDetInputs',
         meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
# Cells are round: platelets of about 19 pixels, red ones of 51, white ones of 94.
model = dict(
    bbox_head=dict(
        num_classes=3,
        anchor_generator=dict(octave_base_scale=2.5, ratios=[0.75, 1.0, 1.35])))
in_process = dict(num_workers=0, persistent_workers=False)
pictures = dict(data_root=data_root, metainfo=metainfo, data_prefix=dict(img=''))
train_dataloader = dict(
    batch_size=4, dataset=dict(pipeline=train_pipeline, **pictures), **in_process)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline, **pictures), **in_process)
test_dataloader = dict(dataset=dict(pipeline=test_pipeline, **pictures), **in_process)
val_evaluator = dict(ann_file=data_root + 'annotations/val.json')
test_evaluator = dict(ann_file=data_root + 'annotations/test.json')

train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.05, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', eta_min_ratio=0.01, by_epoch=False, begin=50, end=max_iters),
]
default_hooks = dict(checkpoint=dict(interval=max_iters))
