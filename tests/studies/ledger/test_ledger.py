"""The file: appended to by many at once, read with what is torn or there twice."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.ledger_results import OTHER_CODE, result

from lossweave.errors import LossweaveError
from lossweave.studies.ledger.ledger import append, read

_WRITERS, _EACH = 4, 25


def test_what_is_appended_is_read(tmp_path: Path) -> None:
    path = tmp_path / "new" / "ledger.jsonl"
    assert read(path).results == ()
    append(path, result(seed=0))
    append(path, result(seed=1), result(seed=2))
    reading = read(path)
    assert [r.seed for r in reading.results] == [0, 1, 2] and not reading.remarks
    assert reading.of(result(seed=1).training) == [result(seed=1)]
    assert path.read_text().count("\n") == 3


def test_several_ledgers_are_read_as_one(tmp_path: Path) -> None:
    append(tmp_path / "a.jsonl", result(seed=0))
    append(tmp_path / "b.jsonl", result(seed=0, **OTHER_CODE), result(seed=1))
    reading = read(tmp_path / "a.jsonl", tmp_path / "b.jsonl")
    assert len(reading.results) == 3 and not reading.remarks
    assert [r.code.commit for r in reading.of(result(seed=0).training)] == ["aaa", "bbb"]


def test_a_duplicate_is_reported_and_the_first_one_counts(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    append(path, result(test=0.5), result(test=0.5), result(test=0.4))
    reading = read(path)
    assert [r.scores["test"] for r in reading.results] == [0.5]
    same, other = reading.remarks
    assert "line 2: Sum, seed 0 is there already" in same and "line 1" in same
    assert same.endswith("with the same numbers") and other.endswith("with OTHER NUMBERS")
    append(tmp_path / "copy.jsonl", result(test=0.5))
    (remark,) = read(tmp_path / "copy.jsonl", tmp_path / "copy.jsonl").remarks
    assert "copy.jsonl, line 1" in remark


@pytest.mark.parametrize("cut", [1, 20, 200])
def test_a_torn_last_line_is_left_out_and_then_taken_away(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "ledger.jsonl"
    append(path, result(seed=0), result(seed=1))
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    path.write_bytes(whole[: first + cut])
    reading = read(path)
    assert [r.seed for r in reading.results] == [0]
    (remark,) = reading.remarks
    assert remark.endswith("line 2: torn, left out")
    append(path, result(seed=1))
    assert path.read_bytes() == whole and not read(path).remarks


def test_a_last_line_that_lacks_its_end_alone_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    append(path, result(seed=0))
    whole = path.read_bytes()
    path.write_bytes(whole.rstrip(b"\n"))
    assert len(read(path).results) == 1 and not read(path).remarks
    append(path, result(seed=1))
    assert path.read_bytes().startswith(whole) and len(read(path).results) == 2


def test_a_torn_line_longer_than_a_block(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    append(path, result(seed=0))
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"ledger": 1, "details": "' + b"x" * 200_000)
    append(path, result(seed=1))
    assert path.read_bytes().startswith(whole) and len(read(path).results) == 2


def test_a_broken_line_elsewhere_is_named(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    append(path, result(seed=0))
    line = path.read_text()
    for broken in ("<<<<<<< ours\n", '{"ledger": 1}\n', line.replace('"seed": 0', '"seed": 5')):
        path.write_text(line + broken + line)
        with pytest.raises(LossweaveError, match=r"ledger\.jsonl, line 2: ") as refused:
            read(path)
        assert "\n" not in str(refused.value)


def test_a_ledger_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LossweaveError, match="cannot be added"):
        append(tmp_path / "file" / "ledger.jsonl", result())


def _write(path: Path, writer: int) -> None:
    for number in range(_EACH):
        append(path, result(seed=1000 * writer + number, details={"filling": "x" * 10_000}))


def test_writers_at_a_time_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    processes = multiprocessing.get_context("fork")
    writers = [processes.Process(target=_write, args=(path, w)) for w in range(_WRITERS)]
    for writer in writers:
        writer.start()
    seen = 0
    while any(writer.is_alive() for writer in writers):
        reading = read(path)
        assert not reading.remarks and len(reading.results) >= seen
        seen = len(reading.results)
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    found = read(path)
    expected = {1000 * w + n for w in range(_WRITERS) for n in range(_EACH)}
    assert {r.seed for r in found.results} == expected and not found.remarks


def test_a_writer_that_is_killed_loses_at_most_its_last_line(tmp_path: Path) -> None:
    """A line as long as the disk needs a while for, and a kill on the way."""
    path = tmp_path / "ledger.jsonl"
    program = (
        "import sys; from helpers.ledger_results import result\n"
        "from lossweave.studies.ledger.ledger import append\n"
        f"for seed in range(10**6):\n"
        f"    append({str(path)!r}, result(seed=seed, details=dict(x='y' * 300_000)))\n"
        "    print(seed, flush=True)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        for _ in range(5):
            said = int(process.stdout.readline())
        time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        said = max([said, *(int(line) for line in process.stdout.readlines() if line.strip())])
    kept = [r.seed for r in read(path).results]
    assert kept == list(range(len(kept))) and len(kept) > said
    append(path, result(seed=-1))
    assert [r.seed for r in read(path).results] == [*kept, -1] and not read(path).remarks
