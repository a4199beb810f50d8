"""Files that are there as a whole or not at all."""

import os
from pathlib import Path

import pytest

from lossweave.utils.files import replacing, write_atomically


def test_a_failure_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.txt"
    write_atomically(path, b"one")
    with pytest.raises(ZeroDivisionError), replacing(path) as temporary:
        temporary.write_text("two")
        1 / 0  # noqa: B018
    assert path.read_text() == "one" and os.listdir(path.parent) == ["a.txt"]


def test_a_planted_link_is_not_followed(tmp_path: Path) -> None:
    """Neither under the old temporary name, nor in the place of the file itself."""
    other = tmp_path / "other"
    other.write_text("untouched")
    path = tmp_path / "a.txt"
    path.symlink_to(other)
    (tmp_path / f"a.txt.{os.getpid()}.tmp").symlink_to(other)
    with replacing(path) as temporary:
        assert not temporary.is_symlink() and temporary.parent == tmp_path
        temporary.write_text("new")
    assert path.read_text() == "new" and not path.is_symlink()
    assert other.read_text() == "untouched"


def test_two_writers_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with replacing(path) as one, replacing(path) as two:
        assert one != two
        one.write_text("1")
        two.write_text("2")
    assert path.read_text() == "1"


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    dead, living = 2**22 - 3, os.getppid()
    for pid in (dead, living):
        (tmp_path / f"a.txt.{pid}.abc.tmp").touch()
    write_atomically(tmp_path / "a.txt", b"x")
    assert sorted(os.listdir(tmp_path)) == ["a.txt", f"a.txt.{living}.abc.tmp"]


def test_permissions_are_an_ordinary_files(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    write_atomically(tmp_path / "ours", b"")
    modes = {(tmp_path / name).stat().st_mode for name in ("plain", "ours")}
    assert len(modes) == 1
