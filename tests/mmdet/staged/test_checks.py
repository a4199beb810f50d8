"""What is found before a staged training begins, and what ends it at once."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.mmdet_staged_toy import quick, staged_config, train_stages
from mmengine.config import Config

from lossweave.errors import LossweaveError, NonFiniteLossError
from lossweave.mmdet.staged.training import StagedAdapter


@pytest.fixture(scope="module", autouse=True)
def _quick() -> Iterator[None]:
    with quick():
        yield


@pytest.fixture
def make(data: Path, tmp_path: Path) -> Callable[..., Config]:
    def config(**overrides: Any) -> Config:
        quick = {"evaluation__stages": False, "evaluation__recall": [], **overrides}
        return staged_config(data, tmp_path / "run", **quick)

    return config


def _combined(cfg: Config, terms: Any) -> Config:
    cfg.model.base_detector, cfg.model.type = cfg.model.type, "lossweave.CombinedLossDetector"
    cfg.model.combiner, cfg.model.terms = dict(type="UncertaintyWeighting", lr=0.1), terms
    return cfg


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (dict(optim_wrapper__optimizer__lr=float("inf")), "optimizer.lr=inf should be a finite"),
        (dict(optim_wrapper__optimizer__lr="fast"), "optimizer.lr='fast' should be a number"),
        (dict(train_dataloader__batch_size=0), "batch_size=0 should be between 1 and"),
        (dict(schedule__rpn__lr=float("nan")), "schedule.rpn.lr=nan should be a finite number"),
        (dict(proposals__max_per_img="many"), "proposals.max_per_img='many' should be"),
        (dict(randomness__seed="x"), "randomness.seed='x' should be"),
        (dict(randomness__seed=-1), "randomness.seed=-1 should be"),
        (dict(test_evaluator__ann_file="/nowhere/a.json"), "no annotation file /nowhere/a.json"),
        (dict(test_dataloader__dataset__ann_file="b.json"), "test_dataloader: .*data.*b.json"),
        (dict(train_dataloader__dataset__ann_file="b.json"), "train_dataloader: .*data.*b.json"),
        (dict(test_evaluator=None), "no test_dataloader and evaluator"),
    ],
)
def test_wrong_values_and_missing_files_end_before_training(make, overrides, message) -> None:
    cfg = make(**overrides)
    with pytest.raises(LossweaveError, match=message) as error:
        train_stages(cfg)
    assert "\n" not in str(error.value)
    work_dir = Path(cfg.work_dir)
    assert not list(work_dir.rglob("*.pth")) and not (work_dir / "record.json").exists()


@pytest.mark.parametrize(
    "terms",
    [
        dict(cls=["loss_rpn_cls"], loc=["loss_rpn_bbox"]),
        {"rpn": ["loss_rpn*"], "roi": ["?loss_bbox"], "cls": ["?loss_cls"]},
    ],
)
def test_terms_that_do_not_fit_every_stage_end_before_training(make, terms) -> None:
    cfg = _combined(make(), terms)
    with pytest.raises(LossweaveError, match=r"stage 'rcnn1': .*the detector's losses are"):
        train_stages(cfg)
    assert not list(Path(cfg.work_dir).rglob("*.pth"))


@pytest.mark.parametrize("terms", ["task", "head", "loss", "auto", {"a": ["*cls"], "b": "*bbox"}])
def test_terms_that_fit_are_taken(make, terms) -> None:
    StagedAdapter(_combined(make(), terms)).check()


def test_a_training_that_diverges_ends_at_once_without_a_combiner(make) -> None:
    """A rate and a decay that are allowed, and weights that are soon not finite."""
    cfg = make(schedule__rpn__lr=1000, optim_wrapper__optimizer__weight_decay=100)
    with pytest.raises(NonFiniteLossError, match=r"stage 'rpn1': iteration 1: loss.* is nan"):
        train_stages(cfg)
    assert not (Path(cfg.work_dir) / "rpn1/final.pth").exists()


def test_building_changes_nothing_that_is_hashed(make) -> None:
    """Whatever has been built before: models, loaders, evaluations."""
    first = StagedAdapter(make())
    before = first.proposers("train"), first.settings()
    first.init_weights(0, fresh=False)
    first.check()
    first.ground_truth("test")
    other = StagedAdapter(make())
    assert before == (first.proposers("train"), first.settings())
    assert before == (other.proposers("train"), other.settings())


def test_another_rate_or_other_data_are_not_resumed(make) -> None:
    begin = make(custom_hooks=[dict(type="StopIn", stage="rpn1", iteration=1)])
    with pytest.raises(RuntimeError, match="power cut"):
        train_stages(begin)
    other = make(optim_wrapper__optimizer__lr=0.5)
    with pytest.raises(LossweaveError, match=r"another config: optim_wrapper.optimizer.lr \(0.002"):
        train_stages(other, resume=True)
    other = make()
    other.train_dataloader.dataset.filter_cfg.filter_empty_gt = True
    with pytest.raises(LossweaveError, match=r"filter_empty_gt \(False then, True now\)"):
        train_stages(other, resume=True)
    other = make(train_dataloader__num_workers=1)  # changes the speed alone
    other.custom_hooks = [dict(type="StopIn", stage="rpn1", iteration=1)]
    with pytest.raises(RuntimeError, match="power cut"):
        train_stages(other, resume=True)
