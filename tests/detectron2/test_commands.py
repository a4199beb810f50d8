"""The tools on Detectron2's configs: what they accept, where they write, and what they refuse."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from detectron2.data import MetadataCatalog
from helpers.mmdet_support import assert_same

from lossweave.cli import main
from lossweave.detectron2.configs import default_work_dir, load_config, with_combiner
from lossweave.detectron2.yaml import Trainer
from lossweave.errors import LossweaveError
from lossweave.host.paths import framework_of

REPOSITORY = Path(__file__).parents[2]

LAZY = """\
import torch
from helpers.detectron2_toy import DATA, toy_cfg
from detectron2.config import LazyCall as L
from detectron2.data import (
    DatasetMapper, build_detection_test_loader, build_detection_train_loader,
    get_detection_dataset_dicts)
from detectron2.evaluation import COCOEvaluator
from detectron2.model_zoo import get_config
from detectron2.modeling import build_model
from detectron2.solver import get_default_optimizer_params
from fvcore.common.param_scheduler import CosineParamScheduler

train = get_config("common/train.py").train
train.max_iter, train.eval_period, train.checkpointer.period, train.seed = 4, 0, 2, 1
dataloader = dict(
    train=L(build_detection_train_loader)(
        dataset=L(get_detection_dataset_dicts)(names=DATA),
        mapper=L(DatasetMapper)(is_train=True, augmentations=[], image_format="BGR"),
        total_batch_size=2, aspect_ratio_grouping=False),
    test=L(build_detection_test_loader)(
        dataset=L(get_detection_dataset_dicts)(names=DATA, filter_empty=False),
        mapper=L(DatasetMapper)(is_train=False, augmentations=[], image_format="BGR")),
    evaluator=L(COCOEvaluator)(dataset_name=DATA))
optimizer = L(torch.optim.SGD)(
    params=L(get_default_optimizer_params)(), lr=0.01, momentum=0.9)
lr_multiplier = L(CosineParamScheduler)(start_value=1.0, end_value=1.0)
model = L(build_model)(cfg=toy_cfg("retinanet", "."))
"""


@pytest.fixture(autouse=True)
def _in_an_empty_folder(data: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def stock(make_cfg, tmp_path: Path) -> str:
    """Path of a stock toy config in yaml."""
    cfg = make_cfg("faster_rcnn", SOLVER__CHECKPOINT_PERIOD=2, OUTPUT_DIR="./output")
    path = tmp_path / "toy.yaml"
    path.write_text(cfg.dump())
    return str(path)


@pytest.fixture
def lazy(tmp_path: Path) -> str:
    """Path of a stock toy LazyConfig."""
    path = tmp_path / "lazy_toy.py"
    path.write_text(LAZY)
    return str(path)


def test_a_yaml_config_is_trained_resumed_and_tested(stock: str) -> None:
    arguments = [stock, "--combiner", "IMTLL", "--combiner-options", "lr=0.1", "--exact-resume"]
    whole = main.train([*arguments, "--work-dir", "whole"])
    assert whole.model.loss_combination.combiner.lr == 0.1
    part = main.train([*arguments, "--cfg-options", "SOLVER.MAX_ITER=2"])
    assert part.iter == 2
    folder = Path("work_dirs/toy_IMTLL")
    assert {p.name for p in folder.glob("*.pth")} == {"model_0000001.pth", "model_final.pth"}
    resumed = main.train([*arguments, "--resume"])
    assert (resumed.start_iter, resumed.iter) == (2, 4)
    assert_same(whole.model.state_dict(), resumed.model.state_dict())
    named = main.train(
        [*arguments, "--resume", str(folder / "model_0000001.pth"), "--work-dir", "third"]
    )
    assert_same(whole.model.state_dict(), named.model.state_dict())
    found = main.test([stock, str(folder / "model_final.pth")])
    ours = main.test([str(folder / "config.yaml"), str(folder / "model_final.pth")])
    assert set(found["bbox"]) >= {"AP", "AP50"} and str(found) == str(ours)


def test_a_lazy_config_is_trained_resumed_and_tested(lazy: str) -> None:
    arguments = [lazy, "--combiner", "PCGrad", "--combiner-options", "boundary=features"]
    arguments += ["--terms", "a=loss_cls", "b=loss_box_reg", "--exact-resume"]
    whole = main.train([*arguments, "--work-dir", "whole"])
    combination = whole.model.loss_combination
    assert combination.names == ("a", "b") and combination.combiner.boundary == "features"
    main.train([*arguments, "--cfg-options", "train.max_iter=3"])
    resumed = main.train([*arguments, "--resume"])
    assert (resumed.start_iter, resumed.iter) == (3, 4)
    assert_same(whole.model.state_dict(), resumed.model.state_dict())
    third = main.train(
        [*arguments, "--resume", "whole/model_0000001.pth", "--work-dir", "third"]
    )
    assert_same(whole.model.state_dict(), third.model.state_dict())
    found = main.test([lazy, "work_dirs/lazy_toy_PCGrad/model_final.pth"])
    assert "AP50" in found["bbox"]


def test_our_trainer_is_the_stock_one(stock: str) -> None:
    ours = main.train([stock])
    assert not hasattr(ours.model, "loss_combination")
    from detectron2.engine import DefaultTrainer
    from detectron2.utils.env import seed_all_rng

    class Stock(DefaultTrainer):
        @classmethod
        def build_evaluator(cls, cfg: Any, dataset_name: str) -> Any:
            return Trainer.build_evaluator(cfg, dataset_name)

    cfg = load_config(stock)
    cfg.OUTPUT_DIR = "stock"
    seed_all_rng(0)
    theirs = Stock(cfg)
    theirs.train()
    assert_same(theirs.model.state_dict(), ours.model.state_dict())


def test_names_of_configs(tmp_path: Path) -> None:
    zoo = "COCO-Detection/retinanet_R_50_FPN_1x.yaml"
    for name in (f"detectron2://{zoo}", zoo, "lossweave::detectron2/demo/retinanet_demo.py"):
        assert framework_of(name) == "detectron2"
    assert framework_of("mmdet::ssd/ssd300_coco.py") == "mmdet"
    assert framework_of("lossweave::mmdet/demo/ssd_demo.py") == "mmdet"
    assert load_config(zoo).dump() == load_config(f"detectron2://{zoo}").dump()
    own = tmp_path / "own.yaml"
    own.write_text(f'_BASE_: "detectron2://{zoo}"\nSOLVER:\n  BASE_LR: 0.5\n')
    cfg = load_config(str(own), ["SOLVER.STEPS=(3,)"])
    assert (cfg.SOLVER.BASE_LR, cfg.SOLVER.STEPS) == (0.5, (3,))
    assert cfg.MODEL.META_ARCHITECTURE == "RetinaNet" and cfg.MODEL.RETINANET.NUM_CONVS == 4
    with_combiner(cfg, "DWA", {"period": 7})
    assert default_work_dir(cfg, "x/own.yaml") == "work_dirs/own_DWA"
    with pytest.raises(LossweaveError, match="did you mean detectron2://COCO-Detection/ret"):
        load_config("detectron2://COCO-Detection/retinanet_R_50_FPN_1.yaml")


@pytest.mark.parametrize("path", sorted((REPOSITORY / "configs" / "detectron2").glob("*/*.*")))
def test_our_configs(path: Path) -> None:
    assert framework_of(str(path)) == "detectron2"
    cfg = with_combiner(load_config(str(path)), "UncertaintyWeighting", {"lr": 0.1})
    assert default_work_dir(cfg, str(path)).endswith("_UncertaintyWeighting")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--combiner", "UncertantyWeighting"], "did you mean 'UncertaintyWeighting'"),
        (["--combiner", "DWA", "--combiner-options", "temp=1"], "DWA has no argument 'temp'"),
        (["--combiner", "DWA", "--combiner-options", "temperature"], "should be KEY=VALUE"),
        (["--combiner-options", "p=2"], "--combiner-options needs --combiner"),
        (["--combiner", "Max", "--terms", "a=loss_cls", "b"], "should be NAME=PATTERN"),
        (["--cfg-options", "SOLVER.BASE=1"], "Non-existent key: SOLVER.BASE"),
        (["--cfg-options", "SOLVER.BASE_LR"], "should be KEY=VALUE"),
        (["--auto-scale-lr"], "SOLVER.REFERENCE_WORLD_SIZE"),
        (["--launcher", "pytorch"], "Detectron2 takes --num-gpus"),
        (["--num-gpus", "99"], "this machine has"),
    ],
)
def test_wrong_input_is_one_line(stock: str, arguments: list[str], message: str) -> None:
    with pytest.raises(LossweaveError, match=message) as caught:
        main.train([stock, *arguments])
    assert "\n" not in str(caught.value)
    assert not list(Path().rglob("*.pth"))


def test_mixed_precision_without_a_gpu_is_refused(stock: str, lazy: str) -> None:
    for config in (stock, lazy):
        with pytest.raises(LossweaveError, match="AMPTrainer needs a GPU"):
            main.train([config, "--amp"])


def test_another_configs_checkpoints_are_refused(stock: str, lazy: str) -> None:
    for config, key in ((stock, "SOLVER.MAX_ITER"), (lazy, "train.max_iter")):
        arguments = [config, "--work-dir", f"w_{key}", "--cfg-options", f"{key}=1", "--combiner"]
        main.train([*arguments, "Max"])
        main.train([*arguments, "Max"])  # the same: as stock
        with pytest.raises(LossweaveError, match="holds checkpoints of a different config"):
            main.train([*arguments, "Min"])


def test_what_testing_refuses(stock: str, lazy: str) -> None:
    Path("some.pth").touch()
    for option in ("--show", "--show-dir=x", "--out=x.pkl"):
        with pytest.raises(LossweaveError, match="write the detections to WORK_DIR/inference"):
            main.test([stock, "some.pth", option])
    with pytest.raises(LossweaveError, match="--tta takes a yaml config"):
        main.test([lazy, "some.pth", "--tta"])
    with pytest.raises(LossweaveError, match=r"there is no checkpoint 'none\.pth'"):
        main.test([stock, "none.pth"])
    cfg = load_config(stock, ["MODEL.META_ARCHITECTURE=ProposalNetwork"])
    MetadataCatalog.get("toy_voc").evaluator_type = "pascal_voc"
    with pytest.raises(LossweaveError, match="takes detections, and a ProposalNetwork makes"):
        Trainer.build_evaluator(cfg, "toy_voc")


def test_nothing_is_lost_on_interrupt(stock: str, data: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from helpers.detectron2_toy import register_data; "
        "from lossweave.cli import main; register_data(Path(sys.argv[1])); "
        "main.run(lambda: main.train(sys.argv[2:]))"
    )
    arguments = [stock, "--work-dir", "w", "--combiner", "IMTLL", "--exact-resume"]
    path = os.pathsep.join(sys.path)
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(data), *arguments, "--cfg-options",
         "SOLVER.MAX_ITER=5000", "SOLVER.CHECKPOINT_PERIOD=100000"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": path},
    )  # fmt: skip
    for line in process.stdout:
        if "iter: " in line:
            process.send_signal(signal.SIGINT)
            break
    rest, _ = process.communicate(timeout=120)
    assert process.returncode == 130, rest
    reached = int(Path("w/last_checkpoint").read_text().removeprefix("model_")[:7])
    resumed = main.train([*arguments, "--resume", "--cfg-options",
                                  f"SOLVER.MAX_ITER={reached + 2}"])  # fmt: skip
    assert (resumed.start_iter, resumed.iter) == (reached + 1, reached + 2)
