# Cascade R-CNN with the parts of faster-rcnn_efficientnet-lite0.py and three stages of heads.
# Trained by ../cascade-rcnn_demo.py.
_base_ = ['mmdet::_base_/models/cascade-rcnn_r50_fpn.py', './demo_data.py', './demo_schedule.py']

model = dict(
    data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3),
    backbone=dict(
        _delete_=True,
        type='lossweave.EfficientNetLite0',
        pretrained=True,
        out_indices=(2, 3, 4),
        frozen_stages=1,
        norm_eval=True),
    neck=dict(in_channels=[40, 112, 320], out_channels=64, num_outs=3),
    rpn_head=dict(
        in_channels=64,
        feat_channels=64,
        anchor_generator=dict(
            scales=[3, 4.25], ratios=[1.25, 1.75, 2.5], strides=[8, 16, 32])),
    roi_head=dict(
        bbox_roi_extractor=dict(
            out_channels=64, featmap_strides=[8, 16, 32], finest_scale=24),
        bbox_head=[
            dict(own, in_channels=64, fc_out_channels=256, num_classes=10)
            for own in _base_.model.roi_head.bbox_head]),
    train_cfg=dict(
        rpn=dict(sampler=dict(num=64)),
        rpn_proposal=dict(nms_pre=200, max_per_img=100),
        rcnn=[
            dict(own, sampler=dict(own.sampler, num=64))
            for own in _base_.model.train_cfg.rcnn]),
    test_cfg=dict(rpn=dict(nms_pre=200, max_per_img=100)))
