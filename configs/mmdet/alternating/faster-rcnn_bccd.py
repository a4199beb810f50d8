# The small Faster R-CNN on photographs of blood cells, trained in four steps, or jointly beside it.
#
# Command: python tools/prepare_voc.py data/BCCD (see ../real/retinanet_bccd.py)
#          python tools/train.py configs/mmdet/alternating/faster-rcnn_bccd.py
#          python tools/train.py configs/mmdet/alternating/faster-rcnn_bccd.py \
#              --work-dir work_dirs/faster-rcnn_bccd_joint --cfg-options schedule.type=joint
from mmengine.config import Config

_base_ = '../demo/_base_/faster-rcnn_efficientnet-lite0.py'

runner_type = 'lossweave.StagedRunner'

# The data of the RetinaNet on these photographs.
real = Config.fromfile('{{ fileDirname }}/../real/retinanet_bccd.py')
data_root = real.data_root
metainfo = real.metainfo
train_dataloader = real.train_dataloader
val_dataloader = real.val_dataloader
test_dataloader = real.test_dataloader
val_evaluator = real.val_evaluator
test_evaluator = real.test_evaluator
del real

# Cells are round: platelets of about 19 pixels, red ones of 51, white ones of 94.
model = dict(
    rpn_head=dict(anchor_generator=dict(scales=[2.5, 3.5], ratios=[0.75, 1.0, 1.35])),
    roi_head=dict(
        bbox_roi_extractor=dict(finest_scale=20),
        bbox_head=dict(num_classes=3)))
optim_wrapper = dict(optimizer=dict(fused=True))

# The papers' budgets divided by 400, with 4 times their images a step; rates as in
# faster-rcnn_screen.py.
schedule = dict(
    type='four_step',
    rpn=dict(iterations=200, batch_size=4, drops=[150], warmup=20, lr=5e-4),
    rcnn=dict(iterations=100, batch_size=8, drops=[75], warmup=10, lr=5e-4),
    joint=dict(iterations=175, batch_size=8, drops=[125], warmup=17, lr=1e-3))
proposals = dict(max_per_img=100, min_bbox_size=4)
evaluation = dict(split='test')
default_hooks = dict(checkpoint=dict(interval=200))
