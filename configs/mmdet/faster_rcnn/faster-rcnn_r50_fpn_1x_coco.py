# Faster R-CNN R50-FPN on COCO, its losses combined; the stock config otherwise.
#
# Command: torchrun --nproc_per_node 8 tools/train.py \
#              configs/mmdet/faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py --launcher pytorch
# Result:  with Sum the stock training: 37.4 AP in MMDetection's record
# Another combiner: --combiner NAME, or model.combiner below.
_base_ = 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'

model = dict(
    type='lossweave.CombinedLossDetector',
    base_detector=_base_.model.type,
    combiner=dict(type='Sum'))
train_dataloader = dict(batch_sampler=dict(
    type='lossweave.SeededBatchSampler', base='mmdet.AspectRatioBatchSampler'))
train_cfg = dict(type='lossweave.EpochBasedTrainLoop')
default_hooks = dict(lossweave=dict(type='lossweave.CombinerHook'))
