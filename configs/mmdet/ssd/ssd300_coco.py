# SSD300 on COCO, its losses combined; the stock config otherwise.
#
# Command: torchrun --nproc_per_node 8 tools/train.py \
#              configs/mmdet/ssd/ssd300_coco.py --launcher pytorch
# Result:  with Sum the stock training: 25.5 AP in MMDetection's record
# Another combiner: --combiner NAME, or model.combiner below.
_base_ = 'mmdet::ssd/ssd300_coco.py'

model = dict(
    type='lossweave.CombinedLossDetector',
    base_detector=_base_.model.type,
    combiner=dict(type='Sum'))
train_dataloader = dict(
    batch_sampler=dict(_delete_=True, type='lossweave.SeededBatchSampler'))
train_cfg = dict(type='lossweave.EpochBasedTrainLoop')
default_hooks = dict(lossweave=dict(type='lossweave.CombinerHook'))
