# A smaller Cascade R-CNN on demo data of 96 x 96: cascade-rcnn_demo.py as faster-rcnn_screen.py is
# to faster-rcnn_demo.py.
#
# Command: python tools/make_demo_data.py --root data/lossweave_screen --size 96
#          python tools/train.py configs/mmdet/demo/cascade-rcnn_screen.py
_base_ = ['./cascade-rcnn_demo.py', './_base_/screen.py']

model = dict(
    backbone=_base_.screen.backbone,
    neck=_base_.screen.neck,
    rpn_head=_base_.screen.rpn_head,
    roi_head=dict(bbox_roi_extractor=_base_.screen.bbox_roi_extractor))
train_dataloader = _base_.screen.train_dataloader
val_dataloader = _base_.screen.evaluation
test_dataloader = _base_.screen.evaluation
val_evaluator = _base_.screen.val_evaluator
test_evaluator = _base_.screen.test_evaluator
optim_wrapper = _base_.screen.optim_wrapper
train_cfg = _base_.screen.train_cfg
param_scheduler = _base_.screen.param_scheduler
default_hooks = _base_.screen.default_hooks
