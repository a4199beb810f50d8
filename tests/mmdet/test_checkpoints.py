"""A whole checkpoint is on the disk at any moment, and the newest whole one is gone on from."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.mmdet_support import assert_same
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from lossweave.cli import main
from lossweave.errors import LossweaveError
from lossweave.mmdet.checkpoints import WholeFiles


@HOOKS.register_module(force=True)
class DiskFull(Hook):
    """The disk is full from one iteration on."""

    priority = "VERY_HIGH"

    def __init__(self, iteration: int) -> None:
        self.iteration = iteration

    def after_train_iter(self, runner: Any, batch_idx: int, *_: Any, **__: Any) -> None:
        if runner.iter + 1 == self.iteration:

            def put(files: WholeFiles, obj: bytes, filepath: str | Path) -> None:
                Path(f"{filepath}.x.tmp").write_bytes(obj[: len(obj) // 2])
                raise OSError(28, "No space left on device")

            WholeFiles.put = put


@pytest.fixture
def config(make_config, tmp_path: Path, monkeypatch) -> str:
    """Path of a toy config that keeps one checkpoint."""
    monkeypatch.chdir(tmp_path)
    cfg = make_config("retinanet", "IMTLL", "run", iterations=4)
    cfg.default_hooks.checkpoint.max_keep_ckpts = 1
    cfg.pop("work_dir")
    cfg.dump(tmp_path / "toy.py")
    return str(tmp_path / "toy.py")


def test_the_only_whole_copy_is_never_removed(config: str, monkeypatch) -> None:
    monkeypatch.setattr(WholeFiles, "put", WholeFiles.put)  # given back at the end
    with pytest.raises(OSError, match="No space left"):
        main.train([_with_hook(config, "DiskFull", 3), "--work-dir", "w"])
    assert [path.name for path in Path("w").glob("*.pth")] == ["iter_2.pth"]
    assert torch.load("w/iter_2.pth", weights_only=False)["meta"]["iter"] == 2


def _with_hook(config: str, name: str, iteration: int) -> str:
    path = Path(config).with_name("hooked.py")
    made = f"custom_hooks = [dict(type={name!r}, iteration={iteration})]"
    path.write_text(Path(config).read_text().replace("custom_hooks = []", made))
    return str(path)


@pytest.mark.parametrize("keep", [0.0, 0.7])
def test_a_damaged_newest_one_is_passed_over(config: str, keep: float, capsys) -> None:
    every = ["--cfg-options", "default_hooks.checkpoint.max_keep_ckpts=-1"]
    whole = main.train([config, "--work-dir", "w", *every])
    for number, name in enumerate(("iter_3.pth", "iter_4.pth")):
        path = Path("w", name)
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
        os.utime(path, (2e9 + number, 2e9 + number))
    resumed = main.train([config, "--work-dir", "w", "--resume", *every])
    assert_same(whole.model.state_dict(), resumed.model.state_dict())
    assert "w/iter_4.pth is not whole; going on from w/iter_2.pth" in capsys.readouterr().out


def test_what_cannot_be_resumed_from(config: str) -> None:
    main.train([config, "--work-dir", "w"])
    content = torch.load("w/iter_4.pth", weights_only=False)
    torch.save({"state_dict": content["state_dict"]}, "weights.pth")
    Path("text.pth").write_text("no checkpoint")
    for name, message in (
        ("nowhere.pth", r"there is no checkpoint 'nowhere\.pth'"),
        ("text.pth", r"text\.pth is damaged, or no checkpoint"),
        ("w", "'w' is a folder, not a checkpoint"),
        ("weights.pth", "it has no meta, message_hub, optimizer, param_schedulers"),
    ):
        with pytest.raises(LossweaveError, match=message) as caught:
            main.train([config, "--work-dir", "v", "--resume", name])
        assert "\n" not in str(caught.value)
    assert not list(Path("v").glob("*.pth"))


def test_nothing_in_a_work_directory_is_executed(config: str) -> None:
    main.train([config, "--work-dir", "w"])
    Path("w/n.py").write_text("import os\nos.mkdir('executed')\n")
    main.train([config, "--work-dir", "w"])  # the same config: as stock
    Path("v").mkdir()
    Path("v/a.pth").touch()
    Path("v/n.py").write_text("import os\nos.mkdir('executed')\n")
    with pytest.raises(LossweaveError, match="v holds checkpoints of a different config"):
        main.train([config, "--work-dir", "v"])
    assert not Path("executed").exists()


class Crafted:
    """Makes a folder when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("executed",)


def test_a_crafted_checkpoint_is_not_resumed_from(config: str) -> None:
    main.train([config, "--work-dir", "w"])
    content = torch.load("w/iter_4.pth", weights_only=False)
    content["meta"]["note"] = Crafted()
    torch.save(content, "w/iter_5.pth")
    with pytest.raises(LossweaveError, match=r"iter_5\.pth asks for '.*mkdir'.*--resume w"):
        main.train([config, "--work-dir", "w", "--resume"])
    assert not Path("executed").exists()


def test_removals_wait_for_what_is_written(tmp_path: Path) -> None:
    files = WholeFiles()
    one, two = tmp_path / "one", tmp_path / "two"
    files.put(b"1", one)
    with files.removing_later():
        with files.removing_later():  # the best one is saved inside saving the newest
            files.remove(one)
            assert one.exists()
            files.put(b"2", two)
        assert one.exists()
    assert not one.exists() and two.read_bytes() == b"2"
    with files.removing_later():
        files.remove(two)
        files.put(b"3", two)  # under the same name: that is the new one
    assert two.read_bytes() == b"3"
    with pytest.raises(KeyError), files.removing_later():
        files.remove(two)
        raise KeyError
    assert two.exists()
    files.remove(two)
    assert not two.exists()
