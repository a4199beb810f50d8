# lossweave::mmdet/demo/retinanet_screen.py with the weights and the learning rate that tools/tune.py found.
# Weights: cls 1.20376, loc 0.796243; 0.00160758.
# They are the config's own loss_weight keys: it takes no plugin to train it.
#
# Command: python tools/tune.py lossweave::mmdet/demo/retinanet_screen.py --budget 8 --work-dir docs/results/tune_search
_base_ = '../../../configs/mmdet/demo/retinanet_screen.py'
optim_wrapper = dict(optimizer=dict(lr=0.00160758))
model = dict(bbox_head=dict(loss_cls=dict(loss_weight=1.20376), loss_bbox=dict(loss_weight=0.796243)), combiner=dict(_delete_=True, type='Sum'))
