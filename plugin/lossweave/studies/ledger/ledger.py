"""A study's ledger: a file of JSON lines that only grows, and that several may write to.

A line is written as a whole under the file's lock, so no writer loses another one's. A writer
that dies inside a line leaves a torn one at the end: it is left out by whoever reads, and taken
away by whoever writes next.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import isnan
from pathlib import Path

from lossweave.errors import LossweaveError
from lossweave.studies.ledger.result import Result
from lossweave.utils.files import finite

__all__ = ["Reading", "append", "read"]

_BLOCK = 65536


@dataclass(frozen=True)
class Reading:
    """What ledgers hold.

    Args:
        results: in the order of the lines; of a duplicate the first one.
        remarks: what a reader should be told: torn lines, duplicates.
    """

    results: tuple[Result, ...]
    remarks: tuple[str, ...] = ()

    def of(self, training: str) -> list[Result]:
        """The results of a training, from whatever place; see :attr:`Result.training`."""
        return [result for result in self.results if result.training == training]


def read(*paths: str | Path) -> Reading:
    """Read ledgers, one after the other, as one.

    Args:
        paths: the files. One that is not there holds nothing.

    Raises:
        LossweaveError: a line other than a torn last one is no result; it is named.
    """
    results: dict[str, Result] = {}
    origins: dict[str, str] = {}
    remarks = []
    for path in paths:
        lines, torn = _lines(Path(path))
        if torn:
            remarks.append(f"{path}, line {len(lines) + 1}: torn, left out")
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            result = _parsed(line, f"{path}, line {number}")
            before = results.setdefault(result.key, result)
            where = origins.setdefault(result.key, f"{path}, line {number}")
            if before is not result:
                same = "the same numbers" if _same(before, result) else "OTHER NUMBERS"
                remarks.append(
                    f"{path}, line {number}: {result.label} is there already ({where}), with {same}"
                )
    return Reading(tuple(results.values()), tuple(remarks))


def append(path: str | Path, *results: Result) -> None:
    """Add results to a ledger, each in a line of its own, for good when this returns.

    Args:
        path: the file; it is made where there is none.
        results: what is added.

    Raises:
        LossweaveError: it cannot be written to.
    """
    lines = b"".join(
        json.dumps(finite(result.as_dict()), allow_nan=False).encode() + b"\n" for result in results
    )
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, fcntl.LOCK_EX) as file:
            left = memoryview(_mended(file) + lines)
            while left:
                left = left[os.write(file, left) :]
            os.fsync(file)
    except OSError as error:
        raise LossweaveError(f"{path}: a result cannot be added ({error})") from error


def _mended(file: int) -> bytes:
    """Take a torn last line away; what has to stand before the next line."""
    size = os.fstat(file).st_size
    tail = b""
    begin = size
    while begin and b"\n" not in tail:
        begin = max(0, begin - _BLOCK)
        tail = os.pread(file, size - begin, begin)
    tail = tail.rpartition(b"\n")[2]
    if not tail:
        return b""
    if _whole(tail):
        return b"\n"
    os.ftruncate(file, size - len(tail))
    return b""


def _lines(path: Path) -> tuple[list[bytes], bool]:
    """The whole lines of a ledger, and whether a torn one follows."""
    if not path.is_file():
        return [], False
    with _locked(path, os.O_RDONLY, fcntl.LOCK_SH) as file, open(file, "rb", closefd=False) as text:
        content = text.read()
    *lines, last = content.split(b"\n")
    if last and _whole(last):
        return [*lines, last], False
    return lines, bool(last)


@contextmanager
def _locked(path: Path, flags: int, lock: int) -> Iterator[int]:
    file = os.open(path, flags, 0o644)
    try:
        fcntl.flock(file, lock)
        yield file
    finally:
        os.close(file)


def _whole(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _parsed(line: bytes, where: str) -> Result:
    try:
        return Result.from_dict(json.loads(line))
    except LossweaveError as error:
        raise LossweaveError(f"{where}: {error}") from None
    except ValueError:
        raise LossweaveError(f"{where}: no JSON") from None


def _same(a: Result, b: Result) -> bool:
    def plain(result: Result) -> Sequence[tuple[str, float | None]]:
        numbers = [*result.scores.items(), *result.losses.items()]
        return sorted((name, None if isnan(value) else value) for name, value in numbers)

    return plain(a) == plain(b)
