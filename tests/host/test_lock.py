"""Two trainings in one work directory: the second is refused while the first lives."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lossweave.errors import LossweaveError
from lossweave.host.lock import locked, make_work_dir

HOLD = "import sys, time; from lossweave.host.lock import locked\n" + (
    "with locked(sys.argv[1]): print('held', flush=True); time.sleep(60)"
)


def test_a_second_is_refused_and_a_dead_ones_lock_is_taken_over(tmp_path: Path) -> None:
    first = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert first.stdout is not None and first.stdout.readline() == "held\n"
    message = rf"{tmp_path} is in use by another training \(process {first.pid} on .*\)"
    with pytest.raises(LossweaveError, match=message), locked(tmp_path):
        pytest.fail("two hold it")
    first.send_signal(signal.SIGKILL)
    first.wait()
    with locked(tmp_path):
        assert str(os.getpid()) in (tmp_path / ".lock").read_text()


def test_once_more_in_one_process(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    refused = pytest.raises(LossweaveError, match="in use by another training")
    with locked(a), locked(b), refused, locked(a):
        pytest.fail("two hold it")
    with locked(tmp_path / "a"):
        pass


def test_a_link_in_the_place_of_the_lock_is_not_written_through(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("kept")
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / ".lock").symlink_to(precious)
    with pytest.raises(LossweaveError, match="cannot be written"), locked(tmp_path / "work"):
        pytest.fail("it was followed")
    assert precious.read_text() == "kept"


def test_a_work_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for bad in (tmp_path / "file", tmp_path / "file" / "below", "a\0b", "x" * 5000):
        with pytest.raises(LossweaveError, match=r"--work-dir .* cannot be made") as caught:
            make_work_dir(bad)
        assert "\n" not in str(caught.value)


def test_what_a_killed_training_had_half_written_is_removed(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    halves = [f"{at}.pth.{dead.pid}.x1.tmp" for at in ("iter_2", "model_0000001", "rpn1/iter_2")]
    kept = ["iter_1.pth", "notes.tmp", "rpn1/model_0000001.pth", "other/.lock"]
    kept += [f"iter_2.pth.{os.getpid()}.x2.tmp", f"other/iter_3.pth.{dead.pid}.x3.tmp"]
    for folder in ("rpn1", "other"):
        (tmp_path / folder).mkdir()
    for name in (*halves, *kept):
        (tmp_path / name).touch()
    with locked(tmp_path):
        assert not any((tmp_path / name).exists() for name in halves)
        assert all((tmp_path / name).exists() for name in kept)
