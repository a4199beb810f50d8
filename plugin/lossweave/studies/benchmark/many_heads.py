"""A network with any number of terms: a detector's backbone and neck below K heads."""

from typing import Any

import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.model import BaseModel
from torch import Tensor, nn

from lossweave.combination import build_combination
from lossweave.mmdet.detector import combined_class

__all__ = ["ManyHeads", "combined_heads", "patterns"]


class ManyHeads(BaseModel):
    """The backbone and neck of a detector's config, a convolution that all heads share above them,
    and heads of two convolutions, each with a loss of its own.

    So the terms share parameters above the features, and 'representation' is above those.

    Args:
        cfg: the detector's config.
        count: number of heads K.
        seed: of all weights.
    """

    def __init__(self, cfg: Config, count: int, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.backbone = MODELS.build(cfg.model.backbone)
        self.neck = MODELS.build(cfg.model.neck)
        width = int(cfg.model.neck.out_channels)
        self.shared = nn.Conv2d(width, width, 3, padding=1)
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, 4, 1))
            for _ in range(count)
        )

    def extract_feat(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """The neck's outputs."""
        return tuple(self.neck(self.backbone(inputs)))

    def forward(self, inputs: Tensor, mode: str = "loss") -> dict[str, Tensor]:
        """A loss a head, over all levels."""
        levels = [torch.relu(self.shared(level)) for level in self.extract_feat(inputs)]
        aim = 0.5
        return {
            f"loss_{k:02d}": torch.stack([(head(x) - aim).square().mean() for x in levels]).sum()
            for k, head in enumerate(self.heads)
        }


def patterns(count: int) -> dict[str, str]:
    """A term for each head's loss."""
    return {f"t{k:02d}": f"loss_{k:02d}" for k in range(count)}


def combined_heads(cfg: Config, count: int, combiner: dict[str, Any]) -> Any:
    """The same network with its losses combined."""
    combination = build_combination(combiner, patterns(count))
    boundary = combination.boundary
    kind = combined_class(ManyHeads, boundary is not None and boundary.needs_forward)
    model = kind(cfg, count)
    model.loss_combination = combination
    return model
