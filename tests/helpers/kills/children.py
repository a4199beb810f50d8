"""Fresh processes at little cost: forked from one that has imported the framework, and no more.

Two such servers are kept, of different hash seeds: what was killed in a child of one is gone on
with in a child of the other, so nothing may hang on a process's own order of sets or addresses.
"""

import json
import os
import subprocess
import sys
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Any

from helpers.kills.traps import Trap, arm

__all__ = ["Server", "serve"]


class Server:
    """A process that forks a child for every training that it is asked for.

    Args:
        host: 'mmdet' or 'detectron2'.
        data: the toy data.
        hash_seed: the seed of Python's hashes.
    """

    def __init__(self, host: str, data: Path, hash_seed: int) -> None:
        paths = os.pathsep.join(filter(None, sys.path))
        env = {
            **os.environ,
            "PYTHONHASHSEED": str(hash_seed),
            "PYTHONPATH": paths,
            "OMP_NUM_THREADS": "1",
        }
        command = [sys.executable, "-m", "helpers.kills.children", host, str(data)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env
        )

    def run(self, arguments: list[str], trap: Trap | None, log: Path) -> int:
        """Train in a child; its exit status, negative where a signal killed it.

        Args:
            arguments: of ``tools/train.py``.
            trap: where the child is killed.
            log: takes what the child prints.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        asked = dict(arguments=arguments, trap=None if trap is None else asdict(trap), log=str(log))
        print(json.dumps(asked), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the server of {arguments} is gone; see {log}")
        return int(line)

    def close(self) -> None:
        """End the server."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=300)


def serve(host: str, data: str) -> None:
    """Fork a child for every line on standard input, and answer with its exit status."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # some packages print as they are imported
    _prepare(host, data)
    for line in sys.stdin:
        asked = json.loads(line)
        child = os.fork()
        if not child:
            _train(asked)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), file=answers, flush=True)


def _prepare(host: str, data: str) -> None:
    """Import, and nothing that a training of its own would not have done."""
    import torch

    torch.set_num_threads(1)
    if host == "mmdet":
        import lossweave.mmdet.commands
    else:
        import lossweave.detectron2.commands  # noqa: F401
        from helpers.detectron2_toy import register_data

        register_data(Path(data))


def _train(asked: dict[str, Any]) -> None:
    """The child's whole life."""
    log = os.open(asked["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (0, 1, 2):
        os.dup2(os.open(os.devnull, os.O_RDONLY) if stream == 0 else log, stream)
    status = 1
    try:
        if asked["trap"] is not None:
            arm(Trap(**asked["trap"]))
        from lossweave.cli import main

        main.run(lambda: main.train(asked["arguments"]))
        status = 0
    except SystemExit as end:
        status = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2])
