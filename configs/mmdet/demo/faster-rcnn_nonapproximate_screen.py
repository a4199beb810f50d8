# faster-rcnn_screen.py with the gradient through the proposals' coordinates, as in
# faster-rcnn_nonapproximate_demo.py.
#
# Command: python tools/make_demo_data.py --root data/lossweave_screen --size 96
#          python tools/train.py configs/mmdet/demo/faster-rcnn_nonapproximate_screen.py
_base_ = './faster-rcnn_screen.py'

model = dict(
    rpn_head=dict(type='lossweave.NonApproximateRPNHead'),
    roi_head=dict(bbox_roi_extractor=dict(type='lossweave.BoxGradientRoIExtractor')))
