# The small ssd of the demo, on 2 CPU cores; RESULT
#
# Command: python tools/make_demo_data.py && python tools/train.py configs/mmdet/demo/ssd_demo.py
_base_ = './_base_/ssd_efficientnet-lite0.py'

model = dict(
    type='lossweave.CombinedLossDetector',
    base_detector=_base_.model.type,
    combiner=dict(type='Sum'),
    terms='task')
train_dataloader = dict(batch_sampler=dict(type='lossweave.SeededBatchSampler'))
train_cfg = dict(type='lossweave.IterBasedTrainLoop')
default_hooks = dict(lossweave=dict(type='lossweave.CombinerHook'))
