# SSD on two levels of the backbone and one extra level, with anchors of the digits' sizes.
# Trained by ../ssd_demo.py.
_base_ = ['mmdet::_base_/models/ssd300.py', './demo_data.py', './demo_schedule.py']

model = dict(
    data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3),
    backbone=dict(
        _delete_=True,
        type='lossweave.EfficientNetLite0',
        pretrained=True,
        out_indices=(2, 3),
        frozen_stages=1,
        norm_eval=True),
    neck=dict(
        in_channels=(40, 112),
        out_channels=(40, 112, 128),
        level_strides=(2, ),
        level_paddings=(1, ),
        l2_norm_scale=None,
        norm_cfg=dict(type='BN')),
    bbox_head=dict(
        # the stock head of MMDetection 3.3 cannot predict (its issue 11780)
        type='lossweave.SSDHead',
        in_channels=(40, 112, 128),
        num_classes=10,
        stacked_convs=2,
        feat_channels=64,
        norm_cfg=dict(type='BN'),
        anchor_generator=dict(
            min_sizes=[24, 36, 56],
            max_sizes=[36, 56, 80],
            strides=[8, 16, 32],
            ratios=[[1.5, 2.2]] * 3)))
