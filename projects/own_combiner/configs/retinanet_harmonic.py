# A RetinaNet whose two losses are combined by their harmonic mean (MMDetection).
#   PYTHONPATH=projects/own_combiner python tools/train.py \
#       projects/own_combiner/configs/retinanet_harmonic.py
_base_ = 'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py'
custom_imports = dict(imports=['own_combiner'])
model = dict(
    type='lossweave.CombinedLossDetector',
    base_detector=_base_.model.type,
    combiner=dict(type='Harmonic', floor=1e-4))
default_hooks = dict(lossweave=dict(type='lossweave.CombinerHook'))
