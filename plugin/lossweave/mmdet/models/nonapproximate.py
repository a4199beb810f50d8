"""Faster R-CNN's joint training with the derivative that the paper leaves out."""

from __future__ import annotations

from typing import Any

from mmdet.models.dense_heads import RPNHead
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from mmdet.models.utils import select_single_mlvl
from torch import Tensor, nn

from lossweave.errors import LossweaveError
from lossweave.mmdet.models.roi_align import BoxGradientRoIAlign
from lossweave.registry import MODELS

__all__ = ["BoxGradientRoIExtractor", "NonApproximateRPNHead"]


@MODELS.register_module()
class NonApproximateRPNHead(RPNHead):
    """An RPN whose proposals keep their graph, so that the second stage's losses reach it.

    The stock head hands its proposals on as numbers ("approximate joint training"). Here their
    coordinates stay functions of the head's outputs: the second stage's losses send a gradient
    through the targets of the boxes, and, with :class:`BoxGradientRoIExtractor`, through the
    features at the boxes. What is chosen (the best by score, non-maximum suppression, the
    assignment to objects, the level of the pyramid) has no derivative in either. Losses,
    parameters and state dict keys are the stock head's.

    Source:
        Ren et al., *Faster R-CNN*, 2015, section 3.2, "non-approximate joint training".

    Example:
        A two-stage config with both parts::

            model = dict(
                rpn_head=dict(type='lossweave.NonApproximateRPNHead'),
                roi_head=dict(bbox_roi_extractor=dict(type='lossweave.BoxGradientRoIExtractor')))
    """

    def predict_by_feat(
        self,
        cls_scores: list[Tensor],
        bbox_preds: list[Tensor],
        score_factors: list[Tensor] | None = None,
        batch_img_metas: list[dict[str, Any]] | None = None,
        cfg: Any = None,
        rescale: bool = False,
        with_nms: bool = True,
    ) -> list[Any]:
        """The proposals of each picture, their boxes not cut off from the graph."""
        sizes = [scores.shape[-2:] for scores in cls_scores]
        priors = self.prior_generator.grid_priors(
            sizes, dtype=cls_scores[0].dtype, device=cls_scores[0].device
        )
        return [
            self._predict_by_feat_single(
                cls_score_list=select_single_mlvl(cls_scores, picture, detach=True),
                bbox_pred_list=select_single_mlvl(bbox_preds, picture, detach=False),
                score_factor_list=[None] * len(sizes),
                mlvl_priors=priors,
                img_meta=meta,
                cfg=cfg,
                rescale=rescale,
                with_nms=with_nms,
            )
            for picture, meta in enumerate(batch_img_metas or ())
        ]


@MODELS.register_module()
class BoxGradientRoIExtractor(SingleRoIExtractor):
    """The stock extractor with :class:`~lossweave.mmdet.models.roi_align.BoxGradientRoIAlign`.

    Its arguments are the stock extractor's.

    Raises:
        LossweaveError: ``roi_layer.type`` is not 'RoIAlign'.
    """

    def build_roi_layers(self, layer_cfg: Any, featmap_strides: list[int]) -> nn.ModuleList:
        """One layer a level, from the stock ``roi_layer`` of a config."""
        kind = layer_cfg.get("type")
        if kind != "RoIAlign":
            raise LossweaveError(
                f"roi_layer.type {kind!r} has no gradient for the boxes; use 'RoIAlign'"
            )
        return super().build_roi_layers({**layer_cfg, "type": BoxGradientRoIAlign}, featmap_strides)
