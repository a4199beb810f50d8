"""A diagnosed training of MMDetection is the stock one."""

from functools import partial
from pathlib import Path

import pytest
import torch
from helpers.mmdet_support import assert_same, stock_state
from helpers.mmdet_toy import toy_config
from mmengine.logging import MessageHub
from mmengine.runner import Runner

from lossweave.errors import LossweaveError
from lossweave.studies.diagnose.asked import Asked
from lossweave.studies.diagnose.in_mmdet import train
from lossweave.studies.diagnose.record import Record
from lossweave.studies.diagnose.session import Session

TERMS = {"retinanet": None, "ssd": None, "faster_rcnn": "head"}


def _watched(asked: Asked, checkpoint: str | None = None) -> tuple[dict[str, torch.Tensor], Record]:
    session = Session(partial(asked.plan, checkpoint), asked.limit, still=3)
    train(asked, checkpoint, session)
    record = session.record(False)
    assert session.model is not None and record is not None
    state = session.model.state_dict()
    return {k: v for k, v in state.items() if not k.startswith("loss_combination")}, record


def _file(cfg, tmp_path: Path) -> str:
    path = tmp_path / "config.py"
    cfg.dump(str(path))
    return str(path)


@pytest.mark.parametrize("detector", TERMS)
def test_the_weights_are_the_stock_ones_to_the_last_bit(
    detector: str, data: Path, tmp_path: Path
) -> None:
    """Stock detector, stock loop, stock draws; looks and batches at rest change nothing of it."""
    make = partial(toy_config, detector, data, seeded=False)
    stock = Runner.from_cfg(make(tmp_path / "stock"))
    stock.train()
    longer = make(tmp_path / "watched", iterations=50)  # which is ended after 4, too
    asked = Asked(
        _file(longer, tmp_path), iterations=4, interval=2, terms=TERMS[detector],
        work_dir=str(tmp_path / "watched"),
    )  # fmt: skip
    found, record = _watched(asked)
    assert_same(stock_state(stock), found)
    assert record.iterations == 4 and [look.iteration for look in record.looks] == [2, 4]
    assert record.means["training"].still and record.means["training"].count == 3
    expected = ["rpn_cls", "rpn_loc", "roi_cls", "roi_loc"] if TERMS[detector] else ["cls", "loc"]
    assert record.terms == expected and record.optimizer == "SGD"
    parts = list(record.reached)
    assert any("backbone" in part for part in parts) and any("head" in part for part in parts)
    look = record.looks[0]
    assert look.features is not None and look.norm > 0
    total = sum(sum(row) for row in look.whole)
    assert total == pytest.approx(look.norm**2)


def test_the_norm_is_that_of_the_frameworks_own_gradient(data: Path, tmp_path: Path) -> None:
    cfg = toy_config("retinanet", data, tmp_path / "watched", seeded=False)
    asked = Asked(_file(cfg, tmp_path), iterations=2, interval=1, work_dir=str(tmp_path / "w"))
    _, record = _watched(asked)
    logged = MessageHub.get_current_instance().log_scalars
    assert {"train/grad_norm_cls", "train/cos_cls_loc", "train/share_adam_loc"} <= set(logged)
    cfg = toy_config("retinanet", data, tmp_path / "stock", seeded=False, iterations=2)
    stock = Runner.from_cfg(cfg)
    stock.train()
    norm, _ = stock.message_hub.get_scalar("train/grad_norm").data
    assert [look.norm for look in record.looks] == pytest.approx(list(norm), rel=1e-4)
    for look in record.looks:
        assert look.clipped == pytest.approx(min(1, 10 / look.norm), rel=1e-4)


def test_from_a_checkpoint(data: Path, tmp_path: Path) -> None:
    cfg = toy_config("retinanet", data, tmp_path / "first", seeded=False, iterations=2)
    Runner.from_cfg(cfg).train()
    checkpoint = str(tmp_path / "first" / "iter_2.pth")
    asked = Asked(
        _file(cfg, tmp_path), (checkpoint,), 2, 1, work_dir=str(tmp_path / "watched")
    )
    _, record = _watched(asked, checkpoint)
    assert record.stages == ["from iter_2"]
    torch.save({"state_dict": {"other.weight": torch.ones(1)}}, tmp_path / "alien.pth")
    with pytest.raises(LossweaveError, match="is not of this detector"):
        _watched(asked, str(tmp_path / "alien.pth"))


def test_a_training_in_stages_is_refused() -> None:
    with pytest.raises(LossweaveError, match="trains in stages"):
        _watched(Asked("lossweave::mmdet/alternating/faster-rcnn_demo.py"))
