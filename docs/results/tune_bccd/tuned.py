# configs/mmdet/real/retinanet_bccd.py with the weights and the learning rate that tools/tune.py found.
# Weights: cls 0.471443, loc 1.52856; 0.00118373.
# They are the config's own loss_weight keys: it takes no plugin to train it.
#
# Command: python tools/tune.py configs/mmdet/real/retinanet_bccd.py --budget 6 --rates -2 1 --work-dir docs/results/tune_bccd
_base_ = '../../../configs/mmdet/real/retinanet_bccd.py'
optim_wrapper = dict(optimizer=dict(lr=0.00118373))
model = dict(bbox_head=dict(loss_cls=dict(loss_weight=0.471443), loss_bbox=dict(loss_weight=1.52856)), combiner=dict(_delete_=True, type='Sum'))
