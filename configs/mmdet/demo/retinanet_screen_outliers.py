# retinanet_screen.py with training boxes of which a share is grossly wrong: none as it stands.
# tools/box_losses.py sets the share; the boxes of validation and test stay as they are.
#
# Command: python tools/make_demo_data.py --root data/lossweave_screen --size 96
#          python tools/train.py configs/mmdet/demo/retinanet_screen_outliers.py \
#              --cfg-options train_dataloader.dataset.pipeline.2.share=0.2
# Time:    38 s of one CPU core for the training, 2 s for the evaluation
_base_ = './retinanet_screen.py'

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='lossweave.GrossBoxErrors', share=0.0),
    dict(type='Resize', scale=(96, 96), keep_ratio=True),
    dict(type='PackDetInputs',
         meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape')),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
