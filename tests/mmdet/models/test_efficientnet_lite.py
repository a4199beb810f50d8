"""Channels last under mmcv's RoIAlign: what it would do, and where it is refused."""

from typing import Any

import mmcv.ops
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from lossweave.errors import LossweaveError
from lossweave.host.paths import resolve_config
from lossweave.mmdet.configs import check_config, load_config
from lossweave.mmdet.detector import CombinedLossDetector
from lossweave.mmdet.models.efficientnet_lite import refuse_rois_of_channels_last
from lossweave.mmdet.staged.training import StagedAdapter

LAST = {"model.backbone.channels_last": True}
WRONG = r"model\.backbone: with channels_last=True mmcv's RoIAlign"


def test_the_operator_reads_any_memory_as_channels_first() -> None:
    """The reason: where this fails, the refusal can go."""
    maps = torch.randn(1, 8, 16, 16, generator=torch.Generator().manual_seed(0))
    rois = torch.tensor([[0, 1.0, 1.0, 9.0, 9.0]])
    first = mmcv.ops.roi_align(maps, rois, 7)
    last = mmcv.ops.roi_align(maps.to(memory_format=torch.channels_last), rois, 7)
    assert not torch.allclose(first, last)


def _config(name: str, **options: Any) -> Config:
    return load_config(resolve_config(f"lossweave::mmdet/{name}"), options)


def test_every_way_to_a_detector_of_two_stages_refuses_it() -> None:
    init_default_scope("mmdet")
    cfg = _config("demo/faster-rcnn_screen.py", **LAST)
    with pytest.raises(LossweaveError, match=WRONG):
        check_config(cfg)
    model = {key: value for key, value in cfg.model.items() if key != "type"}
    with pytest.raises(LossweaveError, match=WRONG):
        CombinedLossDetector(**model)
    with pytest.raises(LossweaveError, match=WRONG):
        StagedAdapter(_config("alternating/faster-rcnn_screen.py", work_dir="w", **LAST))


@pytest.mark.parametrize(
    "name", ["demo/retinanet_screen.py", "demo/faster-rcnn_screen.py",
             "alternating/faster-rcnn_screen.py", "demo/cascade-rcnn_screen.py"]
)  # fmt: skip
def test_the_configs_are_none_of_these(name: str) -> None:
    refuse_rois_of_channels_last(_config(name).model)
