"""The smallest detector and data set that Detectron2's trainers train."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import META_ARCH_REGISTRY
from torch import nn

from helpers.fuzz.targets import write_images


class Detector(nn.Module):
    """One convolution, and a loss on each half of what it makes."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Conv2d(3, 2, 3)

    def forward(self, batch: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        images = torch.stack([each["image"].float()[:, :8, :8] / 255 + 0.1 for each in batch])
        made = self.backbone(images)
        return {"loss_cls": made[:, 0].square().mean(), "loss_box_reg": made[:, 1].abs().mean()}


def detector() -> nn.Module:
    """For LazyConfigs."""
    return Detector()


if "FuzzDetector" not in META_ARCH_REGISTRY:

    @META_ARCH_REGISTRY.register()
    def FuzzDetector(cfg: Any) -> nn.Module:
        """For yaml configs."""
        return Detector()


@contextmanager
def quick(folder: Path) -> Iterator[None]:
    """With the data set registered, and without what says nothing here."""
    entries = write_images(folder)
    if "fuzz_data" in DatasetCatalog:
        DatasetCatalog.remove("fuzz_data")
    DatasetCatalog.register("fuzz_data", lambda: entries)
    MetadataCatalog.get("fuzz_data").set(thing_classes=["a"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("detectron2.engine.defaults.collect_env_info", str)
        yield
    DatasetCatalog.remove("fuzz_data")
