"""A detector of five small layers: what compilers and wrappers do with it takes seconds."""

from typing import Any

import torch
from mmdet.models.detectors import BaseDetector
from mmdet.registry import MODELS
from torch import Tensor, nn

__all__ = ["TinyDetector", "tiny_batch", "tiny_config"]


@MODELS.register_module()
class TinyDetector(BaseDetector):
    """Two losses on one backbone; ``shared`` gives their heads a layer in common.

    Args:
        shared: whether the two heads have one.
        data_preprocessor: as any detector's.
    """

    def __init__(self, shared: bool = False, data_preprocessor: Any = None) -> None:
        super().__init__(data_preprocessor)
        generator = torch.Generator().manual_seed(0)
        self.backbone = nn.Sequential(nn.Linear(6, 8), nn.Tanh())
        self.tower = nn.Sequential(nn.Linear(8, 8), nn.Tanh()) if shared else nn.Identity()
        self.cls_head, self.box_head = nn.Linear(8, 3), nn.Linear(8, 4)
        for parameter in self.parameters():
            parameter.data = 0.5 * torch.randn(parameter.shape, generator=generator)

    def extract_feat(self, batch_inputs: Tensor) -> Tensor:
        return self.backbone(batch_inputs)

    def loss(self, batch_inputs: Tensor, batch_data_samples: Any) -> dict[str, Tensor]:
        x = self.tower(self.extract_feat(batch_inputs))
        cls = (self.cls_head(x) - 1).square().mean()
        return {"loss_cls": cls, "loss_bbox": 3 * (self.box_head(x) + 2).abs().mean()}

    def predict(self, batch_inputs: Tensor, batch_data_samples: Any) -> Any:
        raise NotImplementedError

    def _forward(self, batch_inputs: Tensor, batch_data_samples: Any = None) -> Any:
        raise NotImplementedError


def tiny_config(combiner: Any, shared: bool = False) -> dict[str, Any]:
    """The config of the detector with its losses combined."""
    return dict(
        type="lossweave.CombinedLossDetector",
        base_detector="TinyDetector",
        shared=shared,
        combiner=combiner,
        data_preprocessor=dict(type="mmengine.BaseDataPreprocessor"),
    )


def tiny_batch(iteration: int, rank: int = 0) -> dict[str, Any]:
    """What a data loader would give."""
    generator = torch.Generator().manual_seed(100 * iteration + rank)
    return {"inputs": torch.randn(5, 6, generator=generator), "data_samples": None}
