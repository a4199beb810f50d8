# RetinaNet R18-FPN on VOC 2007 and 2012, its losses combined; the stock config otherwise.
#
# Command: torchrun --nproc_per_node 8 tools/train.py \
#              configs/mmdet/retinanet/retinanet_r18_fpn_1x_voc0712.py --launcher pytorch
# Result:  with Sum the stock training
# Another combiner: --combiner NAME, or model.combiner below.
_base_ = 'mmdet::pascal_voc/retinanet_r50_fpn_1x_voc0712.py'

model = dict(
    type='lossweave.CombinedLossDetector',
    base_detector=_base_.model.type,
    combiner=dict(type='Sum'),
    backbone=dict(
        depth=18, init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet18')),
    neck=dict(in_channels=[64, 128, 256, 512]))
train_dataloader = dict(batch_sampler=dict(
    type='lossweave.SeededBatchSampler', base='mmdet.AspectRatioBatchSampler'))
train_cfg = dict(type='lossweave.EpochBasedTrainLoop')
default_hooks = dict(lossweave=dict(type='lossweave.CombinerHook'))
