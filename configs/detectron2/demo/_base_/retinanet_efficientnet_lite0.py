# RetinaNet with 64 channels, two convolutions a branch and anchors of the digits' sizes.
# Trained by ../retinanet_demo.py.
from detectron2.layers import ShapeSpec
from detectron2.model_zoo import get_config

from .backbone import backbone

model = get_config('common/models/retinanet.py').model
model.backbone = backbone
model.head_in_features = ['p3', 'p4', 'p5']
model.num_classes = 10
model.head.input_shape = [ShapeSpec(channels=64)] * 3
model.head.conv_dims = [64, 64]
model.head.num_anchors = 6
model.anchor_generator.sizes = [[24, 34], [48, 68], [96, 136]]
model.anchor_generator.aspect_ratios = [1.25, 1.75, 2.5]
model.anchor_generator.strides = [8, 16, 32]
model.pixel_mean = model.pixel_std = [127.5] * 3
model.input_format = 'RGB'
