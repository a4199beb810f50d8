# Faster R-CNN with 64 channels, 64 regions of interest a picture and two layers of 256.
# Trained by ../faster_rcnn_demo.py.
from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec
from detectron2.model_zoo import get_config
from detectron2.modeling.poolers import ROIPooler

from .backbone import backbone

model = get_config('common/models/mask_rcnn_fpn.py').model
for key in list(model.roi_heads):
    if key.startswith('mask_'):
        model.roi_heads.pop(key)
features = ['p3', 'p4', 'p5']
model.backbone = backbone
model.pixel_mean = model.pixel_std = [127.5] * 3
model.input_format = 'RGB'

rpn = model.proposal_generator
rpn.in_features = features
rpn.head.in_channels = 64
rpn.head.num_anchors = 6
rpn.anchor_generator.sizes = [[24, 34], [48, 68], [96, 136]]
rpn.anchor_generator.aspect_ratios = [1.25, 1.75, 2.5]
rpn.anchor_generator.strides = [8, 16, 32]
rpn.batch_size_per_image = 64
rpn.pre_nms_topk = (200, 200)
rpn.post_nms_topk = (100, 100)

heads = model.roi_heads
heads.num_classes = 10
heads.batch_size_per_image = 64
heads.box_in_features = features
heads.box_pooler = L(ROIPooler)(
    output_size=7,
    scales=(1 / 8, 1 / 16, 1 / 32),
    sampling_ratio=0,
    pooler_type='ROIAlignV2',
    canonical_box_size=24,
    canonical_level=3)
heads.box_head.input_shape = ShapeSpec(channels=64, height=7, width=7)
heads.box_head.fc_dims = [256, 256]
heads.box_predictor.input_shape = ShapeSpec(channels=256)
