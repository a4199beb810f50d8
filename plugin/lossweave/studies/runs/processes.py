"""lossweave's tools as processes, several at a time, each with its part of the cores."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, ThreadPoolExecutor, wait
from pathlib import Path
from threading import Event
from typing import TypeVar

from tqdm import tqdm

from lossweave.errors import EXIT_DIVERGED, LossweaveError, NonFiniteLossError
from lossweave.host.paths import tools_root
from lossweave.studies.runs.forked import run_forked

__all__ = ["call", "last_line", "run_all", "threads_for"]

_Result = TypeVar("_Result")
#: Seconds between glances at what runs.
_GLANCE = 10.0


def run_all(
    work: Sequence[Callable[[], _Result]],
    jobs: int,
    what: str,
    standing: Callable[[], str] | None = None,
) -> list[_Result]:
    """Do all of it, ``jobs`` at a time, behind a progress bar; the results in order.

    Args:
        work: what is done; each starts processes and waits for them.
        jobs: how many at a time.
        what: the bar's title.
        standing: says what runs at the moment, to be shown beside the bar.

    Raises:
        Exception: what the first item to fail raised; nothing is begun after that.
    """
    failed = Event()

    def begin(item: Callable[[], _Result]) -> _Result:
        if failed.is_set():
            raise CancelledError
        try:
            return item()
        except BaseException:
            failed.set()
            raise

    bar = tqdm(total=len(work), desc=what, unit="run", smoothing=0)  # the mean so far
    with ThreadPoolExecutor(jobs) as pool, bar:
        running = [pool.submit(begin, item) for item in work]
        left, shown = set(running), ""
        try:
            while left:
                done, left = wait(left, timeout=_GLANCE, return_when=FIRST_COMPLETED)
                for job in sorted(done, key=running.index):  # what failed before what gave way
                    job.result()
                bar.update(len(done))
                now = standing() if standing is not None else shown
                if now != shown:
                    bar.set_postfix_str(now)
                    shown = now
        except BaseException:
            failed.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [job.result() for job in running]


def call(words: Sequence[str], log: Path, jobs: int = 1) -> None:
    """Run one of lossweave's tools (``tools/x.py``) or modules as a process, into a log.

    A tool is forked from a process that has imported the frameworks
    (:mod:`~lossweave.studies.runs.forked`).

    Args:
        words: the tool or the module's dotted name, and its arguments.
        log: what it prints is appended here.
        jobs: processes that share the cores; each gets an equal part of the threads.

    Raises:
        NonFiniteLossError: it diverged, as its exit status says.
        LossweaveError: it failed otherwise; the log and its last line are named.
    """
    threads = threads_for(jobs)
    environment = {
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "PASSIVE",  # waiting threads must not spin on shared cores
    }
    arguments = [word for word in words[1:] if word]
    if words[0].endswith(".py"):
        tool = tools_root() / Path(words[0]).name
        status = run_forked(tool, arguments, log, environment, threads)
    else:
        with open(log, "a") as file:
            status = subprocess.run(
                [sys.executable, "-m", words[0], *arguments],
                stdout=file, stderr=subprocess.STDOUT, env={**os.environ, **environment},
            ).returncode  # fmt: skip
    if status:
        kind = NonFiniteLossError if status == EXIT_DIVERGED else LossweaveError
        raise kind(f"a training failed, see {log}: {last_line(log)[:200]}")


def threads_for(jobs: int) -> int:
    """torch's threads in a process where so many share the cores; at most OMP_NUM_THREADS."""
    share = max(1, (os.cpu_count() or 1) // jobs)
    limit = os.environ.get("OMP_NUM_THREADS", "")
    return min(share, int(limit)) if limit.isdecimal() and int(limit) else share


def last_line(log: Path) -> str:
    """The last line of a log that is not empty; '' without any."""
    return next((line for line in reversed(log.read_text().splitlines()) if line.strip()), "")
