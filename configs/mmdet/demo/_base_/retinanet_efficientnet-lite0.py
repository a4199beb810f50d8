# RetinaNet with 64 channels, two convolutions a branch and anchors of the digits' sizes.
# Trained by ../retinanet_demo.py.
_base_ = ['mmdet::_base_/models/retinanet_r50_fpn.py', './demo_data.py', './demo_schedule.py']

model = dict(
    data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3),
    backbone=dict(
        _delete_=True,
        type='lossweave.EfficientNetLite0',
        pretrained=True,
        out_indices=(2, 3, 4),
        frozen_stages=1,
        norm_eval=True),
    neck=dict(
        in_channels=[40, 112, 320],
        out_channels=64,
        start_level=0,
        add_extra_convs=False,
        num_outs=3),
    bbox_head=dict(
        num_classes=10,
        in_channels=64,
        feat_channels=64,
        stacked_convs=2,
        anchor_generator=dict(
            octave_base_scale=3,
            scales_per_octave=2,
            ratios=[1.25, 1.75, 2.5],
            strides=[8, 16, 32])))
