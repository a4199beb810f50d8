"""Files that are there as a whole or not at all."""

from __future__ import annotations

import glob
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import isfinite
from pathlib import Path
from typing import Any

__all__ = ["finite", "remove_leftovers", "replacing", "write_atomically", "write_json"]


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary path to write to; what was written takes the place of ``path`` at the end.

    If the block fails, ``path`` is as it was. What a killed process has left of the same file
    is removed.

    Args:
        path: the file; its folder is made.

    Raises:
        OSError: the disk refuses.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "numbers.txt"
        >>> with replacing(target) as temporary:
        ...     _ = temporary.write_text("1 2 3")
        >>> target.read_text()
        '1 2 3'
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path.parent, glob.escape(path.name))
    # A name that nobody can have planted a link under.
    prefix = f"{path.name}.{os.getpid()}."
    handle, name = tempfile.mkstemp(prefix=prefix, suffix=".tmp", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        os.chmod(temporary, 0o666 & ~_umask())
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(folder: Path, pattern: str) -> None:
    """Remove what processes that live no more have left of files that they were replacing.

    Args:
        folder: where the files are.
        pattern: of the files' names.
    """
    for left in folder.glob(f"{pattern}.*.tmp"):
        pid = left.name.split(".")[-3:][0]
        if pid.isdecimal() and not _lives(int(pid)):
            left.unlink(missing_ok=True)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_atomically(path: str | Path, content: bytes) -> None:
    """Write a whole file or nothing.

    Args:
        path: the file; its folder is made.
        content: its bytes.

    Raises:
        OSError: the disk refuses.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path, content: Any) -> None:
    """Write JSON so that whoever reads the path finds all of it or the file before.

    A number that is not finite becomes null.
    """
    write_atomically(path, json.dumps(finite(content), indent=1, allow_nan=False).encode())


def finite(value: Any) -> Any:
    """Plain values for JSON: a number that is not finite becomes None, a tuple a list.

    Example:
        >>> finite({"a": (1.5, float("nan"))})
        {'a': [1.5, None]}
    """
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not isfinite(value) else value
