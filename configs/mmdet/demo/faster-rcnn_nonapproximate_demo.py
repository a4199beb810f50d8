# The small Faster R-CNN of faster-rcnn_demo.py, the second stage's gradient sent on through the
# coordinates of the proposals into the RPN ("non-approximate joint training", which the paper
# leaves out). Both parts are options of any two-stage detector with an RPNHead.
#
# Command: python tools/make_demo_data.py
#          python tools/train.py configs/mmdet/demo/faster-rcnn_nonapproximate_demo.py
_base_ = './faster-rcnn_demo.py'

model = dict(
    rpn_head=dict(type='lossweave.NonApproximateRPNHead'),
    roi_head=dict(bbox_roi_extractor=dict(type='lossweave.BoxGradientRoIExtractor')))
