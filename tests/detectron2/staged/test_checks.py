"""What is found before a staged training begins, and what ends it at once."""

import logging
from pathlib import Path
from typing import Any

import pytest
from helpers.detectron2_staged_toy import write_config

from lossweave.cli import main
from lossweave.detectron2.configs import load_config
from lossweave.detectron2.staged.training import StagedAdapter
from lossweave.errors import LossweaveError, NonFiniteLossError


@pytest.fixture(scope="module")
def config(data: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    logging.getLogger("detectron2").setLevel(logging.WARNING)
    return write_config(tmp_path_factory.mktemp("config") / "staged_toy.py")


def _train(config: str, work_dir: Path, *options: str, resume: bool = False) -> Any:
    quick = ["evaluation.stages=False", "evaluation.recall=[]"]
    words = ["--resume"] if resume else []
    return main.train(
        [config, "--work-dir", str(work_dir), *words, "--cfg-options", *quick, *options]
    )


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("optimizer.lr=inf", "optimizer.lr=inf should be a finite"),
        ("optimizer.lr=fast", "optimizer.lr='fast' should be a number"),
        ("dataloader.train.total_batch_size=0", "total_batch_size=0 should be between 1 and"),
        ("schedule.rpn.lr=nan", "schedule.rpn.lr=nan should be a finite number"),
        ("proposals.max_per_img=many", "proposals.max_per_img='many' should be"),
        ("train.seed=x", "train.seed='x' should be"),
        ("schedule=5", "schedule=5 should be a dict"),
        ("dataloader.test.dataset.names=nowhere", "dataloader.test.dataset: .*nowhere"),
        ("dataloader.evaluator.dataset_name=nowhere", "dataloader.evaluator: "),
    ],
)
def test_wrong_values_and_missing_data_end_before_training(
    config: str, tmp_path: Path, option: str, message: str
) -> None:
    with pytest.raises(LossweaveError, match=message) as error:
        _train(config, tmp_path / "run", option)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.rglob("*.pth")) and not list(tmp_path.rglob("record.json"))


def test_terms_that_do_not_fit_every_stage_end_before_training(config: str, tmp_path: Path) -> None:
    terms = ("cls=loss_rpn_cls", "loc=loss_rpn_loc")
    more = ["--combiner", "UncertaintyWeighting", "--terms", *terms]
    with pytest.raises(LossweaveError, match=r"stage 'rcnn1': .*the detector's losses are"):
        main.train([config, "--work-dir", str(tmp_path / "run"), *more])
    assert not list(tmp_path.rglob("*.pth"))


def test_a_training_that_diverges_ends_at_once_without_a_combiner(
    config: str, tmp_path: Path
) -> None:
    with pytest.raises(NonFiniteLossError, match=r"stage 'rpn1': .*(nan|inf)"):
        _train(config, tmp_path / "run", "schedule.rpn.lr=1000", "optimizer.weight_decay=100")
    assert not (tmp_path / "run/rpn1/final.pth").exists()


def test_building_changes_nothing_that_is_hashed(config: str, tmp_path: Path) -> None:
    def made() -> StagedAdapter:
        options = [f"train.output_dir={tmp_path}", "train.device=cpu"]
        return StagedAdapter(load_config(config, options))

    first = made()
    before = first.proposers("train"), first.settings()
    first.init_weights(0, fresh=False)
    first.check()
    first.ground_truth("test")
    assert before == (first.proposers("train"), first.settings())
    assert before == (made().proposers("train"), made().settings())


def test_another_rate_is_not_resumed(config: str, tmp_path: Path) -> None:
    short = ["schedule.rpn.iterations=1", "schedule.rcnn.iterations=1", "+schedule.stop_after=2"]
    _train(config, tmp_path / "run", *short)
    with pytest.raises(LossweaveError, match=r"another config: optimizer.lr \(0.1 then, 0.5 now"):
        _train(config, tmp_path / "run", *short, "optimizer.lr=0.5", resume=True)
    assert _train(config, tmp_path / "run", *short, resume=True).finished
