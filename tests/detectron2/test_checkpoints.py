"""A whole checkpoint is on the disk at any moment, and the newest whole one is gone on from."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.engine import HookBase
from helpers.mmdet_support import assert_same

from lossweave.cli import main
from lossweave.detectron2.checkpoints import WholeCheckpointer
from lossweave.detectron2.interrupt import SaveOnInterruptHook
from lossweave.errors import LossweaveError


@pytest.fixture
def stock(make_cfg, data: Path, tmp_path: Path, monkeypatch) -> str:
    """Path of a toy config in yaml, which is saved every other iteration."""
    monkeypatch.chdir(tmp_path)
    cfg = make_cfg("retinanet", SOLVER__CHECKPOINT_PERIOD=2, OUTPUT_DIR="./output")
    path = tmp_path / "toy.yaml"
    path.write_text(cfg.dump())
    return str(path)


def test_a_damaged_newest_one_is_passed_over(stock: str) -> None:
    words = [stock, "--combiner", "IMTLL", "--exact-resume", "--work-dir", "w"]
    whole = main.train(words)
    assert {path.name for path in Path("w").glob("model_*")} == {
        "model_0000001.pth", "model_0000003.pth", "model_final.pth"
    }  # fmt: skip
    for newest in (Path("w/model_final.pth"), Path("w/model_0000003.pth")):
        newest.write_bytes(newest.read_bytes()[:1000])
    Path("w/last_checkpoint").write_text("")
    resumed = main.train([*words, "--resume"])
    assert resumed.start_iter == 2
    assert_same(whole.model.state_dict(), resumed.model.state_dict())
    torch.save({"model": whole.model.state_dict()}, "weights.pth")
    for name, message in (
        ("nowhere.pth", r"there is no checkpoint 'nowhere\.pth'"),
        ("w", "'w' is a folder, not a checkpoint"),
        ("toy.yaml", r"toy\.yaml is damaged, or no checkpoint"),
        ("weights.pth", r"weights\.pth cannot be resumed from: it has no trainer"),
    ):
        with pytest.raises(LossweaveError, match=message) as caught:
            main.train([*words[:-1], "v", "--resume", name])
        assert "\n" not in str(caught.value)
    assert not list(Path("v").glob("*.pth"))


class Crafted:
    """Makes a folder when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("executed",)


def test_a_crafted_checkpoint_is_not_resumed_from(stock: str) -> None:
    main.train([stock, "--work-dir", "w"])
    content = torch.load("w/model_final.pth", weights_only=False)
    torch.save({**content, "note": Crafted()}, "w/model_final.pth")
    with pytest.raises(LossweaveError, match=r"asks for '.*mkdir'.*trust it, name it: --resume w"):
        main.train([stock, "--work-dir", "w", "--resume"])
    assert not Path("executed").exists()


def test_a_file_is_written_beside_and_renamed(tmp_path: Path, monkeypatch) -> None:
    checkpointer = WholeCheckpointer(torch.nn.Linear(2, 2), str(tmp_path))
    checkpointer.save("model_0000001", iteration=1)
    before = (tmp_path / "model_0000001.pth").read_bytes()
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000001.pth"

    def full(content: Any, file: Any) -> None:
        Path(file).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("torch.save", full)
    for name in ("model_0000001", "model_0000003"):
        with pytest.raises(OSError, match="No space left"):
            checkpointer.save(name)
    assert (tmp_path / "model_0000001.pth").read_bytes() == before
    assert checkpointer.get_checkpoint_file() == str(tmp_path / "model_0000001.pth")
    assert not WholeCheckpointer(torch.nn.Linear(2, 2), str(tmp_path / "new")).has_checkpoint()


class _Checkpointer:
    saved: str = ""

    def save(self, name: str, **_: Any) -> None:
        self.saved = name


class _Trainer:
    iter, start_iter, max_iter = 3, 0, 5


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_what_was_trained_is_saved_before_an_evaluation_is_left(number: signal.Signals) -> None:
    checkpointer = _Checkpointer()
    hook = SaveOnInterruptHook(checkpointer)
    hook.trainer = _Trainer()
    hook.before_train()
    evaluate = hook.stoppable(lambda: os.kill(os.getpid(), number))
    with pytest.raises(KeyboardInterrupt):
        evaluate()
    hook.after_train()
    assert checkpointer.saved == "model_0000003"


def test_the_last_iteration_ends_as_always_and_its_evaluation_does_not_begin() -> None:
    checkpointer = _Checkpointer()
    hook = SaveOnInterruptHook(checkpointer)
    hook.trainer = _Trainer()
    hook.trainer.iter = 4
    hook.before_train()
    os.kill(os.getpid(), signal.SIGTERM)
    hook.after_step()  # the trainer's own hooks have saved it
    hook.trainer.iter = 5
    with pytest.raises(KeyboardInterrupt):
        hook.stoppable(lambda: pytest.fail("it began"))()
    hook.after_train()
    assert not checkpointer.saved


class _Signal(HookBase):
    def after_step(self) -> None:
        os.kill(os.getpid(), signal.SIGTERM)


def test_a_schedulers_signal_is_answered_with_a_checkpoint(stock: str, monkeypatch) -> None:
    from lossweave.detectron2.yaml import Trainer

    words = [stock, "--combiner", "IMTLL", "--exact-resume", "--work-dir"]
    whole = main.train([*words, "whole"])
    made = Trainer.build_hooks
    monkeypatch.setattr(Trainer, "build_hooks", lambda self: [_Signal(), *made(self)])
    with pytest.raises(KeyboardInterrupt):
        main.train([*words, "w"])
    assert [path.name for path in Path("w").glob("*.pth")] == ["model_0000000.pth"]
    monkeypatch.setattr(Trainer, "build_hooks", made)
    resumed = main.train([*words, "w", "--resume"])
    assert resumed.start_iter == 1
    assert_same(whole.model.state_dict(), resumed.model.state_dict())
