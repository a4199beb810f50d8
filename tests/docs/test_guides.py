"""What the guides show is what works: combiners of one's own, configs of one's own data."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import lossweave
from lossweave.combiners.registry import _COMBINERS

GUIDES = Path(__file__).parents[2] / "docs" / "guides"


def _blocks(guide: str) -> list[str]:
    text = (GUIDES / guide).read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


@pytest.fixture
def made() -> Iterator[None]:
    """The combiners of the guide, forgotten again afterwards."""
    for block in _blocks("own_combiner.md"):
        if "register_combiner" in block:
            exec(block, {})
    yield
    for name in ("Harmonic", "EqualLengths"):
        _COMBINERS.pop(name)


def _trained(combiner: str) -> tuple[float, list[float]]:
    w = torch.ones(2, requires_grad=True)
    losses = dict(loss_cls=2 * w[0] + 0 * w[1], loss_bbox=w[0] * 3 + w[1] * 4)
    loss = lossweave.build_combination(combiner)(losses)
    loss.backward()
    assert w.grad is not None
    return loss.item(), w.grad.tolist()


def test_combiners_of_ones_own(made: None) -> None:
    # f = 2 / (1/2 + 1/7) = 28/9, and its derivatives are f² / (2 L²)
    value, grad = _trained("Harmonic")
    weights = [(28 / 9) ** 2 / (2 * loss**2) for loss in (2, 7)]
    assert value == pytest.approx(28 / 9)
    assert grad == pytest.approx([2 * weights[0] + 3 * weights[1], 4 * weights[1]], rel=1e-5)
    # gradients (2, 0) and (3, 4): lengths 2 and 5, so the second has 2/5
    assert _trained("EqualLengths")[1] == pytest.approx([2 + 3 * 2 / 5, 4 * 2 / 5], rel=1e-5)


@pytest.mark.parametrize("guide", ["own_data.md", "four_steps.md"])
def test_configs_for_ones_own_data(guide: str, tmp_path: Path) -> None:
    pytest.importorskip("mmdet")
    from mmengine.config import Config

    blocks = [block for block in _blocks(guide) if block.startswith("_base_")]
    assert blocks
    (tmp_path / "configs").symlink_to(GUIDES.parents[1] / "configs")
    for block in blocks:
        (tmp_path / "mine.py").write_text(block, encoding="utf-8")
        cfg = Config.fromfile(tmp_path / "mine.py")
        head = cfg.model.bbox_head if "bbox_head" in cfg.model else cfg.model.roi_head.bbox_head
        for part in ("train", "val", "test"):
            dataset = cfg[f"{part}_dataloader"].dataset
            assert dataset.data_root == cfg.data_root and dataset.pipeline
            assert head.num_classes == len(dataset.metainfo.classes) == 3
        assert cfg.val_evaluator.get("ann_file", cfg.data_root).startswith(cfg.data_root)
