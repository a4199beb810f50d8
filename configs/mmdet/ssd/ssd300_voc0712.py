# SSD300 on VOC 2007 and 2012, its losses combined; the stock config otherwise.
#
# Command: torchrun --nproc_per_node 8 tools/train.py \
#              configs/mmdet/ssd/ssd300_voc0712.py --launcher pytorch
# Result:  with Sum the stock training
# Another combiner: --combiner NAME, or model.combiner below.
_base_ = 'mmdet::pascal_voc/ssd300_voc0712.py'

model = dict(
    type='lossweave.CombinedLossDetector',
    base_detector=_base_.model.type,
    combiner=dict(type='Sum'))
train_dataloader = dict(batch_sampler=dict(type='lossweave.SeededBatchSampler'))
train_cfg = dict(type='lossweave.EpochBasedTrainLoop')
default_hooks = dict(lossweave=dict(type='lossweave.CombinerHook'))
