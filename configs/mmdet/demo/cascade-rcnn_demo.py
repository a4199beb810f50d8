# The small Cascade R-CNN on the demo data, its losses combined: beside faster-rcnn_demo.py it
# refines each box three times, at IoU 0.5, 0.6 and 0.7 with an object.
#
# Command: python tools/make_demo_data.py
#          python tools/train.py configs/mmdet/demo/cascade-rcnn_demo.py
# Terms by stage: --terms s0='s0.*' s1='s1.*' s2='s2.*' rpn='loss_rpn*'
_base_ = './_base_/cascade-rcnn_efficientnet-lite0.py'

model = dict(
    type='lossweave.CombinedLossDetector',
    base_detector=_base_.model.type,
    combiner=dict(type='Sum'))
train_dataloader = dict(batch_sampler=dict(type='lossweave.SeededBatchSampler'))
train_cfg = dict(type='lossweave.IterBasedTrainLoop')
default_hooks = dict(lossweave=dict(type='lossweave.CombinerHook'))
