"""The smallest detector and data set that MMDetection's runner trains."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from mmdet.registry import DATASETS, MODELS
from mmengine.model import BaseModel
from torch import nn
from torch.utils.data import Dataset


@MODELS.register_module(force=True)
class FuzzDetector(BaseModel):
    """One convolution, and a loss on each half of what it makes."""

    def __init__(self, data_preprocessor: Any = None, init_cfg: Any = None) -> None:
        super().__init__(data_preprocessor, init_cfg)
        self.backbone = nn.Conv2d(3, 2, 3)

    def extract_feat(self, inputs: torch.Tensor) -> tuple[torch.Tensor]:
        return (self.backbone(inputs),)

    def forward(self, inputs: Any, data_samples: Any = None, mode: str = "tensor") -> Any:
        (made,) = self.extract_feat(torch.stack(list(inputs)))
        return {"loss_cls": made[:, 0].square().mean(), "loss_bbox": made[:, 1].abs().mean()}


@DATASETS.register_module(force=True)
class FuzzData(Dataset):
    """Two pictures of nothing."""

    metainfo: dict[str, Any] = {}  # noqa: RUF012

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"inputs": torch.full((3, 8, 8), 0.5 + index), "data_samples": None}


@contextmanager
def quick() -> Iterator[None]:
    """Without what takes most of the time of so small trainings, which says nothing here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("yapf.yapflib.yapf_api.FormatCode", lambda text, **_: (text, True))
        patch.setattr("mmengine.runner.runner.collect_env", dict)
        yield
