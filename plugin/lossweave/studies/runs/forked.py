"""lossweave's tools as forks of one process that has imported the frameworks already.

Torch, MMEngine and MMDetection take seconds of a core to import, which a training of half a
minute and its test would each pay for. The child is what ``python tools/NAME.py`` would be: the
same script, arguments, environment and threads, and so the same numbers bit for bit. It ends
with the study that started it, however that ends, and keeps what it has.

CUDA does not survive a fork: a process that has as much as counted GPUs by CUDA's runtime, as
MMEngine does on import, has children that cannot use one. So they are counted by NVML; where that
is not to be had, the child becomes a new process and pays for the imports.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing import forkserver, get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import NoReturn

__all__ = ["run_forked"]

#: What MMDetection's trainings import, without what a study imports beside it.
_PRELOADED = ["lossweave.mmdet.commands", "mmdet.datasets", "mmdet.evaluation", "mmdet.engine"]

#: GPUs are counted without CUDA's runtime.
_COUNTED = {"PYTORCH_NVML_BASED_CUDA_CHECK": "1"}
#: Linux: which signal a process gets when its parent ends.
_PR_SET_PDEATHSIG = 1

_context = get_context("forkserver")
_context.set_forkserver_preload(_PRELOADED)


def run_forked(
    tool: Path, words: Sequence[str], log: Path, environment: Mapping[str, str], threads: int
) -> int:
    """Run a tool in a child, and wait for it.

    Args:
        tool: the script.
        words: its arguments.
        log: what it prints is appended here.
        environment: what is set in the child beside this process's environment.
        threads: torch's.

    Returns:
        Its exit status; negative where a signal ended it.
    """
    environment = {**_COUNTED, **environment}
    with _set(environment):  # the server, which is started once, has it too
        forkserver.ensure_running()
    job = (str(tool), list(words), str(log), {**os.environ, **environment}, threads)
    child = _context.Process(target=_run, args=job)
    child.start()
    try:
        child.join()
    except BaseException:
        child.join()  # an interrupt reaches the child as well, which keeps what it has
        raise
    assert child.exitcode is not None
    return child.exitcode


@contextmanager
def _set(environment: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _run(tool: str, words: list[str], log: str, environment: dict[str, str], threads: int) -> None:
    """The child's whole life."""
    import torch

    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(file, stream)
    os.environ.clear()
    os.environ.update(environment)
    if torch.cuda._is_in_bad_fork() and _has_a_gpu():
        _become(tool, words)
    torch.set_num_threads(threads)
    Thread(target=_end_with_parent, daemon=True).start()
    sys.argv = [tool, *words]
    sys.path.insert(0, str(Path(tool).parent))
    runpy.run_path(tool, run_name="__main__")


def _has_a_gpu() -> bool:
    """As MMEngine found on import, before the fork; what has lost CUDA cannot ask."""
    device = sys.modules.get("mmengine.device")
    return device is not None and device.get_device() == "cuda"


def _become(tool: str, words: Sequence[str]) -> NoReturn:
    """Start the tool in this process's place."""
    if sys.platform == "linux":  # the server, its parent, ends with the study
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    os.execv(sys.executable, [sys.executable, tool, *words])


def _end_with_parent() -> None:
    """A study that was killed cannot stop its trainings: nobody would wait for them."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
