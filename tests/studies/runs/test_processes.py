"""Processes side by side: their order, and what a failure stops."""

import threading
import time
from pathlib import Path

import pytest

from lossweave.errors import EXIT_DIVERGED, EXIT_WRONG_INPUT, LossweaveError, NonFiniteLossError
from lossweave.studies.runs.processes import call, run_all, threads_for


def test_results_come_in_order() -> None:
    def slow(number: int) -> int:
        time.sleep(0.05 * (3 - number))
        return number

    work = [lambda n=n: slow(n) for n in range(3)]  # type: ignore[misc]
    assert run_all(work, 3, "test") == [0, 1, 2]


@pytest.mark.parametrize("jobs", [1, 2])
def test_nothing_begins_after_a_failure(jobs: int) -> None:
    begun, gate = [], threading.Event()

    def fail() -> None:
        begun.append("fails")
        gate.set()
        raise LossweaveError("broken")

    def wait() -> None:
        gate.wait(5)
        time.sleep(0.1)

    def never() -> None:
        begun.append("never")

    work = [*([wait] if jobs > 1 else []), fail, never, never]
    with pytest.raises(LossweaveError, match="broken"):
        run_all(work, jobs, "test")
    assert begun == ["fails"]


def test_a_failed_process_names_its_log(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    with pytest.raises(LossweaveError, match=r"log\.txt: .*No module named"):
        call(["lossweave.nowhere"], log)
    call(["json.tool", "--help"], log)
    assert "usage" in log.read_text()


def test_a_training_that_diverged_is_told_by_its_exit_status(tmp_path: Path) -> None:
    ends = {EXIT_DIVERGED: NonFiniteLossError, EXIT_WRONG_INPUT: LossweaveError}
    for status, kind in ends.items():
        tool = tmp_path / f"ends_in_{status}.py"
        tool.write_text(f"print('not finite')\nraise SystemExit({status})\n")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("lossweave.studies.runs.processes.tools_root", lambda: tmp_path)
            with pytest.raises(LossweaveError, match="not finite") as ended:
                call([f"tools/{tool.name}"], tmp_path / "log.txt")
        assert ended.type is kind


def test_threads_are_the_part_of_the_cores_or_what_the_environment_allows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    for limit, threads in (("", 4), ("1", 1), ("3", 3), ("16", 4), ("4,2", 4)):
        monkeypatch.setenv("OMP_NUM_THREADS", limit)
        assert threads_for(2) == threads
