"""A diagnosed training of Detectron2 is the stock one."""

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from detectron2.engine import DefaultTrainer, default_setup
from helpers.detectron2_toy import register_data, toy_cfg
from helpers.mmdet_support import assert_same

from lossweave.demo import make_demo_data
from lossweave.detectron2.run import steady_scripts
from lossweave.studies.diagnose.asked import Asked
from lossweave.studies.diagnose.in_detectron2 import train
from lossweave.studies.diagnose.record import Record
from lossweave.studies.diagnose.session import Session


def _watched(asked: Asked) -> tuple[dict[str, Any], Record]:
    session = Session(partial(asked.plan, None), asked.limit, still=3)
    train(asked, None, session)
    record = session.record(False)
    assert session.model is not None and record is not None
    state = session.model.state_dict()
    return {k: v for k, v in state.items() if not k.startswith("loss_combination")}, record


@pytest.mark.parametrize("detector", ["retinanet", "faster_rcnn"])
def test_the_weights_are_the_stock_ones_to_the_last_bit(
    detector: str, data: Path, tmp_path: Path
) -> None:
    register_data(data)
    steady_scripts()
    cfg = toy_cfg(detector, tmp_path / "stock", DATASETS__TEST=())
    default_setup(cfg, SimpleNamespace(config_file="", eval_only=False))
    stock = DefaultTrainer(cfg)
    stock.train()
    longer = toy_cfg(detector, tmp_path / "watched", SOLVER__MAX_ITER=50)  # ended after 4, too
    (tmp_path / "config.yaml").write_text(longer.dump())
    asked = Asked(
        str(tmp_path / "config.yaml"), iterations=4, interval=2, work_dir=str(tmp_path / "watched")
    )
    found, record = _watched(asked)
    assert_same(dict(stock.model.state_dict()), found)
    assert record.terms == ["cls", "loc"] and record.means["training"].still
    assert [look.iteration for look in record.looks] == [2, 4]
    assert record.looks[0].features is not None and "backbone.bottom_up.res3" in record.reached


def test_a_lazy_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_demo_data(tmp_path / "data/lossweave_demo", train=8, val=2, test=2)
    options = ("dataloader.train.total_batch_size=2", "dataloader.train.num_workers=0")
    asked = Asked(
        "lossweave::detectron2/demo/retinanet_demo.py", iterations=2, interval=1, options=options,
        work_dir="watched",
    )  # fmt: skip
    _, record = _watched(asked)
    assert record.iterations == 2 and record.adaptive and record.optimizer == "AdamW"
    assert not (tmp_path / "watched/model_final.pth").exists()
    assert "cos_cls_loc" in (tmp_path / "watched/metrics.json").read_text()
