"""The tools: what they accept, where they write, and one line for every wrong input."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from helpers.mmdet_support import assert_same
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from lossweave.cli import main
from lossweave.errors import LossweaveError
from lossweave.mmdet.configs import default_work_dir, load_config, with_combiner

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.fixture
def stock(make_config, tmp_path: Path) -> str:
    """Path of a stock toy config, one iteration long."""
    cfg = make_config("retinanet", name="stock", iterations=1, seeded=False)
    cfg.pop("work_dir")
    cfg.dump(tmp_path / "toy.py")
    return str(tmp_path / "toy.py")


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_any_stock_config_is_wrapped(stock) -> None:
    runner = main.train(
        [stock, "--combiner", "DWA", "--combiner-options", "temperature=1.5", "period=7"]
    )
    combiner = runner.model.loss_combination.combiner
    assert (combiner.temperature, combiner.period) == (1.5, 7)
    assert Path("work_dirs/toy_DWA/iter_1.pth").is_file()


def test_terms_from_the_command_line(stock) -> None:
    runner = main.train(
        [stock, "--combiner", "Max", "--terms", "a=loss_cls", "b=loss_bbox,?loss_l1"]
    )
    assert runner.model.loss_combination.names == ("a", "b")


def test_terms_alone_wrap_with_the_sum(stock) -> None:
    runner = main.train([stock, "--terms", "head"])
    assert runner.model.loss_combination.is_plain_sum
    assert Path("work_dirs/toy_Sum").is_dir()


def test_stock_options(stock) -> None:
    runner = main.train(
        [stock, "--work-dir", "elsewhere", "--cfg-options", "optim_wrapper.optimizer.lr=0.5"]
    )
    assert runner.optim_wrapper.optimizer.defaults["lr"] == 0.5
    assert not hasattr(runner.model, "loss_combination")
    assert Path("elsewhere/iter_1.pth").is_file()


def test_resume_and_exact_resume(stock) -> None:
    arguments = [stock, "--combiner", "IMTLL", "--exact-resume", "--cfg-options"]
    whole = main.train([*arguments, "train_cfg.max_iters=4", "--work-dir", "whole"])
    main.train([*arguments, "train_cfg.max_iters=2", "--work-dir", "parts"])
    resumed = main.train(
        [*arguments, "train_cfg.max_iters=4", "--work-dir", "parts", "--resume"]
    )
    assert resumed.iter == 4
    assert_same(whole.model.state_dict(), resumed.model.state_dict())


def test_another_configs_checkpoints_are_refused(stock) -> None:
    main.train([stock, "--combiner", "Max", "--work-dir", "w"])
    main.train([stock, "--combiner", "Max", "--work-dir", "w"])  # the same: as stock
    with pytest.raises(LossweaveError, match="w holds checkpoints of a different config"):
        main.train([stock, "--combiner", "Min", "--work-dir", "w"])
    main.train([stock, "--combiner", "Min", "--work-dir", "w", "--resume"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--combiner", "UncertantyWeighting"], "did you mean 'UncertaintyWeighting'"),
        (["--combiner", "DWA", "--combiner-options", "temp=1"], "DWA has no argument 'temp'"),
        (["--combiner", "DWA", "--combiner-options", "temperature=hot"], "should be a number"),
        (["--combiner", "Max", "--combiner-options", "p=2"], "Max has no argument 'p'"),
        (["--combiner-options", "p=2"], "--combiner-options needs --combiner"),
        (["--combiner", "Max", "--terms", "cls"], "terms='cls' should be"),
        (["--combiner", "Max", "--terms", "a=loss_cls", "b"], "should be NAME=PATTERN"),
        (
            ["--combiner", "RatioAligned", "--combiner-options", "reference=mask"],
            "reference='mask' is not one of the terms",
        ),
        (["--combiner", "Max", "--auto-scale-lr"], "--auto-scale-lr needs"),
    ],
)
def test_wrong_input_is_seen_in_the_config(stock, arguments, message, monkeypatch) -> None:
    def never(*_, **__):
        raise AssertionError("the data was read")

    monkeypatch.setattr("mmdet.datasets.CocoDataset.load_data_list", never)
    monkeypatch.setattr("lossweave.mmdet.commands.Runner.from_cfg", never)
    if "--auto-scale-lr" in arguments:
        arguments = [*arguments, "--cfg-options", "auto_scale_lr={}"]
    with pytest.raises(LossweaveError, match=message.replace("?", r"\?")) as caught:
        main.train([stock, *arguments])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        (["a=loss_cls", "b=loss_nothing"], "pattern 'loss_nothing' of term 'b' matches nothing"),
        (["a=loss_cls", "b=loss_box"], "did you mean 'loss_bbox'"),
    ],
)
def test_patterns_are_checked_before_the_first_update(stock, terms, message) -> None:
    with pytest.raises(LossweaveError, match=message):
        main.train([stock, "--combiner", "Max", "--terms", *terms])
    assert not list(Path().rglob("*.pth"))


class Failing(Hook):
    """Ends a training with an error.

    Args:
        at: the method that does.
    """

    def __init__(self, at: str) -> None:
        self.at = at
        self.seen: list[Any] = []

    def before_train(self, runner: Runner) -> None:
        self._maybe_fail("before_train", runner)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        self._maybe_fail("before_train_iter", runner)

    def _maybe_fail(self, at: str, runner: Runner) -> None:
        if at == self.at:
            watched = runner.optim_wrapper.optimizer._optimizer_step_pre_hooks
            self.seen += [watched, len(watched), signal.getsignal(signal.SIGTERM)]
            raise ArithmeticError("as it was told to")


@pytest.mark.parametrize("at", ["before_train", "before_train_iter"])
def test_a_training_that_fails_leaves_optimizer_and_signals_as_they_were(
    stock: str, at: str, monkeypatch
) -> None:
    failing, before = Failing(at), signal.getsignal(signal.SIGTERM)
    monkeypatch.setitem(HOOKS.module_dict, "Failing", lambda: failing)
    cfg = Config.fromfile(stock)
    cfg.default_hooks.failing = dict(type="Failing", priority="LOW")  # after the combiner's
    cfg.dump(stock)
    with pytest.raises(LossweaveError, match="as it was told to"):
        main.train([stock, "--combiner", "Max"])
    watched, count, handler = failing.seen
    assert count == 1 and (handler is before) == (at == "before_train")
    assert not watched and signal.getsignal(signal.SIGTERM) is before


def test_names_that_do_not_exist(stock) -> None:
    with pytest.raises(LossweaveError, match=r"there is no config 'nothing\.py'"):
        main.train(["nothing.py"])
    with pytest.raises(LossweaveError, match=r"did you mean mmdet::ssd/ssd300_coco\.py"):
        load_config("mmdet::ssd/ssd300_coc.py")
    with pytest.raises(LossweaveError, match="package 'nowhere' is not installed"):
        load_config("nowhere::x.py")
    with pytest.raises(LossweaveError, match="there is no checkpoint"):
        main.test([stock, "none.pth"])
    cfg = load_config(stock)
    cfg.model.type = "RetinaNett"
    with pytest.raises(LossweaveError, match="did you mean 'RetinaNet'"):
        from mmengine.registry import MODELS, init_default_scope

        init_default_scope("mmdet")
        MODELS.build(with_combiner(cfg, "Max").model)


def test_package_names_and_work_dirs() -> None:
    cfg = with_combiner(load_config("mmdet::ssd/ssd300_coco.py"), "UncertaintyWeighting")
    assert default_work_dir(cfg, "mmdet::ssd/ssd300_coco.py") == (
        "work_dirs/ssd300_coco_UncertaintyWeighting"
    )
    ours = load_config("lossweave::mmdet/ssd/ssd300_coco.py")
    assert with_combiner(ours, "LpNorm", {"p": 3.0}).model.combiner == dict(type="LpNorm", p=3.0)


def test_no_losses_at_all(make_config) -> None:
    from mmengine.registry import MODELS, init_default_scope

    init_default_scope("mmdet")
    model = MODELS.build(make_config("retinanet", "Max").model)
    with pytest.raises(LossweaveError, match="returned no entry with 'loss'"):
        model.parse_losses({})


def _tool(name: str, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, str(TOOLS / name), *arguments], capture_output=True, text=True
    )


def test_one_line_and_exit_status(stock) -> None:
    done = _tool("train.py", stock, "--combiner", "Summ")
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith("error: unknown combiner 'Summ'")
    assert "Traceback" not in done.stderr
    shown = _tool("train.py", "--help").stdout
    assert "--combiner-options" in shown and "UncertaintyWeighting" in shown


def test_nothing_is_lost_on_interrupt(make_config, tmp_path: Path) -> None:
    cfg = make_config("retinanet", "IMTLL", "run", iterations=2000)
    cfg.default_hooks.checkpoint.interval = 10**9
    cfg.log_level = "INFO"
    cfg.dump(tmp_path / "long.py")
    process = subprocess.Popen(
        [sys.executable, str(TOOLS / "train.py"), "long.py", "--work-dir", "w"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    for line in process.stdout:
        if "Iter(train)" in line:
            process.send_signal(signal.SIGINT)
            break
    started = time.time()
    rest, _ = process.communicate(timeout=60)
    assert process.returncode == 130, rest
    assert time.time() - started < 60
    saved = Path((tmp_path / "w" / "last_checkpoint").read_text())
    reached = int(saved.stem.removeprefix("iter_"))
    cfg = Config.fromfile(tmp_path / "long.py")
    cfg.train_cfg.max_iters = reached + 1
    cfg.dump(tmp_path / "longer.py")
    runner = main.train(["longer.py", "--work-dir", "w", "--resume"])
    assert runner.iter == reached + 1
