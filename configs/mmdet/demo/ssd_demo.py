# The small SSD on the demo data, its losses combined.
#
# Command: python tools/make_demo_data.py
#          python tools/train.py configs/mmdet/demo/ssd_demo.py
# Time:    1.5 to 3 minutes on 2 CPU cores
# Result:  AP 0.598, AP50 0.900 on val with Sum
# Another combiner: --combiner NAME, or model.combiner below.
_base_ = './_base_/ssd_efficientnet-lite0.py'

model = dict(
    type='lossweave.CombinedLossDetector',
    base_detector=_base_.model.type,
    combiner=dict(type='Sum'))
train_dataloader = dict(batch_sampler=dict(type='lossweave.SeededBatchSampler'))
train_cfg = dict(type='lossweave.IterBasedTrainLoop')
default_hooks = dict(lossweave=dict(type='lossweave.CombinerHook'))
