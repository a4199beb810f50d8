# The small Faster R-CNN on the demo data, its losses combined.
#
# Command: python tools/make_demo_data.py
#          python tools/train.py configs/mmdet/demo/faster-rcnn_demo.py
# Time:    2.5 to 5 minutes on 2 CPU cores
# Result:  AP 0.645, AP50 0.944 on val with Sum
# Another combiner: --combiner NAME, or model.combiner below.
_base_ = './_base_/faster-rcnn_efficientnet-lite0.py'

model = dict(
    type='lossweave.CombinedLossDetector',
    base_detector=_base_.model.type,
    combiner=dict(type='Sum'))
train_dataloader = dict(batch_sampler=dict(type='lossweave.SeededBatchSampler'))
train_cfg = dict(type='lossweave.IterBasedTrainLoop')
default_hooks = dict(lossweave=dict(type='lossweave.CombinerHook'))
