"""What people have typed wrongly, each ended by one line before the first update."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.fuzz.run import ready
from helpers.fuzz.targets import TARGETS
from torch.utils.data import DataLoader, Dataset

from lossweave.cli import main
from lossweave.cli.options import parse_test, parse_train
from lossweave.errors import LossweaveError, NonFiniteLossError
from lossweave.host.lock import locked

REPOSITORY = Path(__file__).parents[2]
BOTH = ("mmdet", "yaml", "lazy")


@pytest.fixture(scope="module", autouse=True)
def _ready(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    pytest.importorskip("mmdet")
    pytest.importorskip("detectron2")
    with ready(tmp_path_factory.mktemp("wrong")):
        yield


def _config(target: str, changes: dict[str, Any] | None = None) -> str:
    folder = Path(f"{target}_{len(list(Path.cwd().iterdir()))}")
    folder.mkdir()
    path = folder / f"config{TARGETS[target].suffix}"
    path.write_text(TARGETS[target].text(changes or {}))
    return str(path)


def _refused(words: list[str], message: str) -> None:
    with pytest.raises(LossweaveError, match=message) as caught:
        main.train(words)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("target", BOTH)
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--resume", "nowhere.pth"], r"there is no checkpoint 'nowhere\.pth'"),
        (["--cfg-options", "x"], "--cfg-options: 'x' should be KEY=VALUE"),
        (["--work-dir", "TEXT"], "--work-dir 'TEXT' cannot be made"),
        (["--work-dir", ""], "--work-dir '' is the name of no folder"),
        (["--combiner", "Sum", "--combiner-options", "type=DWA"], "type is said by --combiner"),
        (["--combiner", "CAGrad", "--combiner-options", "c=inf"], "c='inf' should be a number"),
        (["--combiner", "CAGrad", "--combiner-options", "c=1e999"], "c=inf should be a finite"),
        (["--combiner", "Sum", "--combiner-options", "weights=[0,0]"], "weights=.* one term at l"),
        (["--combiner", "Sum", "--combiner-options", "weights=[-1,-1]"], "weights=.* one term at"),
        (["--combiner", "STCH", "--combiner-options", "weights=[0,0]"], "weights=.* not all 0"),
        (["--combiner", "UPGrad", "--combiner-options", "pref_vector=[0,0]"], "not all 0"),
        (["--combiner", "PCGrad", "--combiner-options", "interval=true"], "interval=True should"),
        (["--terms", "a=?x", "b=?y"], "every pattern of a, b begins with"),
        (["--num-gpus", "0"], "num_gpus=0 should be at least 1"),
        (["--bogus"], "unrecognized arguments: --bogus"),
    ],
)  # fmt: skip
def test_command_lines(target: str, words: list[str], message: str) -> None:
    more = [] if "--work-dir" in words else ["--work-dir", f"w_{target}"]
    _refused([_config(target), *words, *more], message)
    assert not list(Path.cwd().rglob("*.pth"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.py", "_base_ = 'lossweave::mmdet/ssd/ssd300_coco.py'\n", "_base_ knows no lossweave::"),
        ("b.py", "_base_ = 'nothing.py'\n", r"b\.py: .*nothing\.py"),
        ("c.py", "x = [1\n", r"c\.py is not a Python file"),
        ("d.py", "model = 5\n", "model=5 should be a dict"),
        ("e.py", "import sys; sys.exit(3)\n", r"e\.py: SystemExit: 3"),
        ("f.py", "from .nothing import model\n", r"f\.py: .*nothing\.py has to exist"),
        ("g.yaml", "a: [1", r"g\.yaml: ParserError"),
        ("h.yaml", "LOSSWEAVE:\n  COMBINR: 1\n", "COMBINR.*did you mean 'COMBINER'"),
        ("i.yaml", '!!python/object/apply:os.mkdir ["made"]', r"i\.yaml: ConstructorError"),
        ("j.yaml", '_BASE_: "detectron2://../../../x.yaml"\n', "leads out of the configs of"),
        ("k.txt", "model = dict()\n", r"k\.txt is no config"),
        ("l.py", "model = dict(type='lossweave.CombinedLossDetector')\n", "base_detector is missi"),
    ],
)
def test_configs_that_cannot_be_read(name: str, content: str, message: str) -> None:
    Path(name).write_text(content)
    _refused([name, "--work-dir", "w"], message)
    assert not Path("made").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("C://cfg.py", "there is no config 'C://cfg.py'"),
        ("FOLDER", "'FOLDER' is a folder, not a config"),
        ("", "there is no config ''"),
        ("x" * 400, "there is no config"),
        ("a\0b.py", "there is no config"),
        ("detectron2://../../setup.py", "leads out of the configs of detectron2://"),
        ("mmdet::../../setup.py", "leads out of the configs of mmdet::"),
        ("::", "the package '' is not installed"),
    ],
)
def test_names_of_no_config(name: str, message: str) -> None:
    _refused([name], message)


@pytest.mark.parametrize(
    ("target", "changes", "message"),
    [
        ("mmdet", {"model.base_detector": None}, "model.base_detector=None should be a name"),
        ("mmdet", {"model.on_nonfinit": "skip"}, "unexpected keyword argument 'on_nonfinit'"),
        ("mmdet", {"optim_wrapper.optimizer.lr": float("inf")}, "lr=inf should be a finite number"),
        ("mmdet", {"optim_wrapper.optimizer.lr": 1e30}, r"lr=1e\+30 should be between 0 and 1000"),
        ("mmdet", {"optim_wrapper.optimizer.momentum": 1}, "momentum=1 should be 0 or more"),
        ("mmdet", {"optim_wrapper.optimizer.type": "SDG"}, "'SDG' is no optimizer; did you m"),
        ("mmdet", {"train_cfg.max_iters": 10**30}, "max_iters=1000.* should be between 1 and 10"),
        ("mmdet", {"param_scheduler": [{"type": "MultiStepLR", "milestones": "x"}]}, "=.x. should"),
        ("mmdet", {"default_hooks.checkpoint.interval": -5}, "interval=-5 should be at least"),
        ("mmdet", {"custom_hooks": 5}, "custom_hooks=5 should be a list"),
        ("mmdet", {"log_level": "LOUD"}, "log_level='LOUD' should be one of"),
        ("mmdet", {"train_cfg.val_begin": -1}, "val_begin=-1 should be between 0"),
        ("yaml", {"DATASETS.TEST": ["nope"]}, "DATASETS.TEST: there is no data set 'nope'"),
        ("yaml", {"SOLVER.STEPS": [5, 3]}, r"STEPS=\(?\[?5, 3.* should be rising"),
        ("lazy", {"dataloader.evaluator": {"a": 1}}, "dataloader.evaluator needs dataloader.test"),
        ("yaml", {"SOLVER.BASE_LR": 1e30}, r"BASE_LR=1e\+30 should be between 0 and 1000"),
        ("yaml", {"SOLVER.WARMUP_ITERS": 10**30}, "WARMUP_ITERS=10.* should be between 0 and 1"),
        ("yaml", {"SOLVER.WEIGHT_DECAY": 1e9}, "WEIGHT_DECAY=10.* should be between 0 and 100"),
        ("lazy", {"optimizer.lr": 1e30}, r"lr=1e\+30 should be between 0 and 1000"),
        ("lazy", {"optimizer.momentum": 1.5}, "momentum=1.5 should be 0 or more, and below 1"),
        ("yaml", {"SOLVER.BASE_LR": float("inf")}, "BASE_LR=inf should be a finite number"),
        ("lazy", {"optimizer.lr": float("inf")}, "lr=inf should be a finite number"),
        ("mmdet", {"default_hooks.lossweave.held_out": {"dataset": {}}}, "names held-out data"),
        ("yaml", {"LOSSWEAVE.HELD_OUT": ["fuzz_data"]}, "LOSSWEAVE.HELD_OUT names held-out data"),
        ("lazy", {"dataloader.held_out": {"a": 1}}, "dataloader.held_out names held-out data"),
        ("mmdet", {"default_hooks.checkpoint.by_epohc": True}, "did you mean 'by_epoch'"),
        ("lazy", {"proposals": "x"}, "proposals should be a dict"),
        ("yaml", {"LOSSWEAVE.COMBINER.ARGS": {"type": "Max"}}, "name it in COMBINER.TYPE"),
    ],
)
def test_fields_that_mean_nothing(target: str, changes: dict[str, Any], message: str) -> None:
    _refused([_config(target, changes), "--work-dir", f"w_{target}"], message)


@pytest.mark.parametrize("target", BOTH)
def test_names_that_clash_in_nested_terms(target: str) -> None:
    made = TARGETS[target]
    inner = {"combiner": "Sum", "terms": {"b": made.box}}
    config = _config(target, made.terms({"a.b": "loss_cls", "a": inner}))
    _refused([config, "--work-dir", "w"], "a.b")


@pytest.mark.parametrize("target", BOTH)
def test_held_out_data_are_left_out_with_another_combiner(target: str) -> None:
    path, value = {
        "mmdet": ("default_hooks.lossweave.held_out", {"dataset": {"type": "FuzzData"}}),
        "yaml": ("LOSSWEAVE.HELD_OUT", ["fuzz_data"]),
        "lazy": ("dataloader.held_out", {"a": 1}),
    }[target]
    config = _config(target, {path: value})
    assert main.train([config, "--combiner", "Max", "--work-dir", f"held_{target}"])


@pytest.mark.parametrize("target", BOTH)
def test_the_second_training_in_a_work_directory_is_refused(target: str) -> None:
    with locked(f"taken_{target}"):
        _refused([_config(target), "--work-dir", f"taken_{target}"], "in use by another training")
    main.train([_config(target), "--work-dir", f"taken_{target}"])


@pytest.mark.parametrize("target", BOTH)
def test_resuming_where_there_is_nothing_begins_anew(target: str) -> None:
    config = _config(target)
    assert main.train([config, "--work-dir", f"new_{target}", "--resume"])
    assert main.train([config, "--work-dir", f"new_{target}", "--resume"])  # and at its end


def test_what_a_misspelt_override_was_meant_to_be() -> None:
    words = ["--cfg-options", "optim_wraper.optimizer.lr=1", "--work-dir", "w"]
    _refused([_config("mmdet"), *words], "no 'optim_wraper'; did you mean 'optim_wrapper'")


def test_options_become_data() -> None:
    words = ["x.py", "--combiner", "DWA", "--combiner-options", "period=7", "--terms", "a=b,c"]
    options = parse_train([*words, "--resume", "--cfg-options", "a=1", "b.c=2"])
    assert options.combiner_options == {"period": 7} and options.terms == {"a": ["b", "c"]}
    assert options.resume == "auto" and options.cfg_options == ("a=1", "b.c=2")
    tested = parse_test(["x.py", "y.pth", "--tta"])
    assert (tested.config, tested.checkpoint, tested.tta) == ("x.py", "y.pth", True)
    with pytest.raises(LossweaveError, match=r"wait_time=-1\.0 should be at least 0"):
        parse_test(["x.py", "y.pth", "--wait-time", "-1"])


@pytest.mark.parametrize(
    ("error", "status"),
    [(LossweaveError("a"), 2), (NonFiniteLossError("a"), 3), (KeyboardInterrupt(), 130)],
)
def test_exit_statuses(error: BaseException, status: int, capsys, monkeypatch) -> None:
    monkeypatch.delenv("LOSSWEAVE_TRACEBACK", raising=False)

    def tool() -> None:
        raise error

    with pytest.raises(SystemExit) as caught:
        main.run(tool)
    assert caught.value.code == status
    assert capsys.readouterr().err == ("stopped\n" if status == 130 else "error: a\n")
    monkeypatch.setenv("LOSSWEAVE_TRACEBACK", "1")
    with pytest.raises(SystemExit):
        main.run(tool)
    assert ("Traceback" in capsys.readouterr().err) == (status != 130)


class Pictures(Dataset[bytes]):
    """The pictures of a folder, the second of which has gone since they were listed."""

    def __init__(self, folder: Path) -> None:
        self.files = [folder / name for name in ("a.png", "it's b.png")]
        self.files[0].write_bytes(b"a")

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> bytes:
        return self.files[index].read_bytes()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_picture_that_has_gone_is_one_line(workers: int, capsys, monkeypatch, tmp_path) -> None:
    monkeypatch.delenv("LOSSWEAVE_TRACEBACK", raising=False)
    loader = DataLoader(Pictures(tmp_path), num_workers=workers)
    with pytest.raises(SystemExit) as caught:
        main.run(lambda: list(loader))
    assert caught.value.code == 2
    gone = str(tmp_path / "it's b.png")
    assert capsys.readouterr().err == f"error: there is no file {gone!r} (any more)\n"


def test_a_file_that_nothing_names_is_one_line(capsys) -> None:
    def tool() -> None:
        raise FileNotFoundError("no data\nat all")

    with pytest.raises(SystemExit):
        main.run(tool)
    assert capsys.readouterr().err == "error: FileNotFoundError: no data at all\n"


ENDLESS = """\
import sys
from pathlib import Path
from helpers.fuzz.run import ready
from lossweave.cli import main
with ready(Path.cwd()):
    main.run(lambda: main.train(sys.argv[1:]))
"""


def test_a_schedulers_signal_is_answered_with_a_checkpoint(tmp_path: Path) -> None:
    config = tmp_path / "config.py"
    many = {"train_cfg.max_iters": 10**6, "log_level": "INFO",
            "default_hooks.checkpoint.interval": 10**6}  # fmt: skip
    config.write_text(TARGETS["mmdet"].text(many))
    process = subprocess.Popen(
        [sys.executable, "-c", ENDLESS, str(config), "--work-dir", "w"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    assert process.stdout is not None
    for line in process.stdout:
        if "Iter(train)" in line:
            process.send_signal(signal.SIGTERM)
            break
    rest, _ = process.communicate(timeout=120)
    assert process.returncode == 130, rest[-2000:]
    (saved,) = (tmp_path / "w").glob("iter_*.pth")
    assert (tmp_path / "w" / "last_checkpoint").read_text().endswith(saved.name)
