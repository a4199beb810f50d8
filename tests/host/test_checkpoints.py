"""Which checkpoint is gone on from: the newest whole one, and nothing in it is executed."""

import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch

from lossweave.errors import LossweaveError
from lossweave.host.checkpoints import check_resumable, contents, is_whole, newest_whole


def _write(path: Path, at: int, old: bool = False, **more: Any) -> Path:
    layer = torch.nn.Linear(3, 2)
    content = {"state_dict": OrderedDict(layer.state_dict()), "meta": {"iter": at}, **more}
    torch.save(content, path, _use_new_zipfile_serialization=not old)
    os.utime(path, (at, at))
    return path


def _cut(path: Path, keep: float) -> None:
    at = path.stat().st_mtime
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    os.utime(path, (at, at))


@pytest.mark.parametrize("old", [False, True])
def test_whole_or_not(tmp_path: Path, old: bool) -> None:
    path = _write(tmp_path / "iter_1.pth", 1, old)
    assert contents(path) == {"state_dict", "meta"}
    for keep in (0.9 if not old else 0.6, 0.5, 0.1, 0):
        _cut(path, keep)
        assert not is_whole(path)
    assert not is_whole(tmp_path / "missing.pth") and not is_whole(tmp_path)


@pytest.mark.parametrize("keep", [0, 0.5, 0.99])
def test_the_one_before_a_damaged_one_is_taken_and_a_line_says_so(
    tmp_path: Path, keep: float
) -> None:
    for at in (2, 4, 10):
        _write(tmp_path / f"iter_{at}.pth", at)
    _write(tmp_path / "best_coco_iter_4.pth", 99)  # has no optimizer: not one to go on from
    told: list[str] = []
    assert newest_whole(tmp_path, told.append) == tmp_path / "iter_10.pth" and not told
    (tmp_path / "last_checkpoint").write_text("")  # cut, too
    _cut(tmp_path / "iter_10.pth", keep)
    assert newest_whole(tmp_path, told.append) == tmp_path / "iter_4.pth"
    newer, older = tmp_path / "iter_10.pth", tmp_path / "iter_4.pth"
    assert told == [f"{newer} is not whole; going on from {older}"]


def test_only_damaged_ones_are_an_error_and_none_is_none(tmp_path: Path) -> None:
    assert newest_whole(tmp_path, print) is None and newest_whole(tmp_path / "x", print) is None
    (tmp_path / "model_final.pth").touch()
    with pytest.raises(LossweaveError, match=r"no whole checkpoint to go on from: model_final\.p"):
        newest_whole(tmp_path, print)


def test_a_name_of_the_users_own_is_known_by_the_tag(tmp_path: Path) -> None:
    _write(tmp_path / "mine-7.pth", 7)
    assert newest_whole(tmp_path, print) is None
    (tmp_path / "last_checkpoint").write_text("/moved/since/mine-7.pth\n")
    assert newest_whole(tmp_path, print) == tmp_path / "mine-7.pth"
    (tmp_path / "last_checkpoint").write_text("../outside.pth")
    assert newest_whole(tmp_path, print) is None


class Crafted:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("executed",)


@pytest.mark.parametrize("old", [False, True])
def test_nothing_in_a_checkpoint_is_executed(tmp_path: Path, old: bool, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = _write(tmp_path / "iter_1.pth", 1, old, message_hub=Crafted())
    assert contents(path) == {"state_dict", "meta", "message_hub"}
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Crafted()))
    assert not is_whole(tmp_path / "plain.pth")
    assert not (tmp_path / "executed").exists()


def test_what_resuming_lacks_is_named(tmp_path: Path) -> None:
    path = _write(tmp_path / "weights.pth", 1)
    check_resumable(path, ["state_dict", "meta"])
    for each, message in (
        (path, r"weights\.pth cannot be resumed from: it has no optimizer, message_hub; "),
        (tmp_path / "nowhere.pth", r"there is no checkpoint '.*nowhere\.pth'"),
        (tmp_path, "is a folder, not a checkpoint"),
    ):
        with pytest.raises(LossweaveError, match=message) as caught:
            check_resumable(each, ["meta", "optimizer", "message_hub"])
        assert "\n" not in str(caught.value)
