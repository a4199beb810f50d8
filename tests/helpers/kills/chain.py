"""A training that is killed in one moment after the other, beside one that never was."""

import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from helpers.kills.children import Server
from helpers.kills.traps import Trap
from lossweave.errors import EXIT_INTERRUPTED
from lossweave.staged import TrainingRecord

__all__ = ["Chain", "assert_same_end"]


class Chain:
    """Both trainings, by the servers of one host.

    Args:
        kind: of :data:`helpers.kills.moments.KINDS`.
        config: path of the toy's config.
        data: the toy data.
        folder: for the work directories and the children's output.
    """

    def __init__(self, kind: str, config: str, data: Path, folder: Path) -> None:
        host = kind.split("/")[0]
        self._config, self._folder = config, folder
        self._more = ["--exact-resume"] if kind == "detectron2/plain" else []
        folder.mkdir(parents=True, exist_ok=True)
        self._servers = [Server(host, data, seed) for seed in (1, 2)]
        self._asked = 0

    def close(self) -> None:
        """End the servers."""
        for server in self._servers:
            server.close()

    def whole(self) -> Path:
        """A training that is never killed; its work directory."""
        folder = self._folder / "whole" / "run"
        status = self._train(folder, None, resume=False)
        assert status == 0, self._tail()
        return folder

    def killed(
        self, traps: Sequence[Trap], name: str, tell: Callable[[str], Any] = lambda line: None
    ) -> Path:
        """A training that is killed in every moment, in order; its work directory.

        Args:
            traps: the moments.
            name: of a folder.
            tell: told of every moment.
        """
        folder = self._folder / name / "run"
        for number, trap in enumerate(traps):
            status = self._train(folder, trap, resume=number > 0)
            right = -signal.SIGKILL if trap.number == signal.SIGKILL else EXIT_INTERRUPTED
            assert status == right, f"{trap.name}: ended with {status}\n{self._tail()}"
            tell(f"killed: {trap.name}")
            if trap.then == "truncate":
                _truncate_newest(folder)
            elif trap.then == "empty note":
                (
                    (folder if trap.where == "run" else folder / trap.where) / "last_checkpoint"
                ).write_text("")
        status = self._train(folder, None, resume=bool(traps))
        assert status == 0, f"after {traps[-1].name}\n{self._tail()}"
        return folder

    def _train(self, folder: Path, trap: Trap | None, resume: bool) -> int:
        server = self._servers[self._asked % len(self._servers)]
        self._asked += 1
        # A killed process may have died before there was anything to go on with.
        words = ["--resume"] if resume else []
        arguments = [self._config, "--work-dir", str(folder), *words, *self._more]
        return server.run(arguments, trap, self._log)

    @property
    def _log(self) -> Path:
        return self._folder / "output.txt"

    def _tail(self) -> str:
        return self._log.read_text()[-800:] if self._log.is_file() else "no output"


def _truncate_newest(folder: Path) -> None:
    found = [p for pattern in ("iter_*.pth", "model_*.pth") for p in folder.rglob(pattern)]
    newest = max(found, key=lambda path: path.stat().st_mtime_ns)
    os.truncate(newest, newest.stat().st_size // 2)


def assert_same_end(one: Path, two: Path) -> None:
    """Weights, proposals and, of a staged training, the record: bit for bit.

    Args:
        one: a work directory.
        two: another.
    """
    if (one / "record.json").is_file():
        _same_staged(one, two)
        return
    for path in (_last(one), _last(two)):
        assert path.is_file()
    _same_weights(_last(one), _last(two))


def _last(folder: Path) -> Path:
    found = [folder / name for name in ("model_final.pth", "iter_4.pth", "epoch_2.pth")]
    return next(path for path in found if path.is_file())


def _same_staged(one: Path, two: Path) -> None:
    records = [TrainingRecord.load(folder) for folder in (one, two)]
    assert all(record.finished for record in records)
    for first, second in zip(records[0].stages, records[1].stages, strict=True):
        assert first.name == second.name and first.metrics == second.metrics
        assert (first.iterations, first.image_passes) == (second.iterations, second.image_passes)
        assert [point.losses for point in first.curve] == [point.losses for point in second.curve]
        assert (first.proposals is None) == (second.proposals is None)
        if first.proposals is not None and second.proposals is not None:
            assert first.proposals.checksum == second.proposals.checksum
        _same_weights(one / first.name / "final.pth", two / first.name / "final.pth")
    _same_weights(one / "unified.pth", two / "unified.pth")
    left = [path for path in two.rglob("*") if path.name.endswith((".tmp", ".partial.npz"))]
    assert not left, left


def _same_weights(one: Path, two: Path) -> None:
    states = []
    for path in (one, two):
        content = torch.load(path, map_location="cpu", weights_only=False)
        states.append(content.get("state_dict") or content["model"])
    assert states[0].keys() == states[1].keys()
    different = [
        name
        for name in states[0]
        if not np.array_equal(np.asarray(states[0][name]), np.asarray(states[1][name]))
    ]
    assert not different, f"{two}: {len(different)} of {len(states[0])} differ, {different[:3]}"
