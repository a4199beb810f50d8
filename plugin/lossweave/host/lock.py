"""One training in one work directory at a time."""

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lossweave.errors import LossweaveError
from lossweave.utils.files import remove_leftovers

try:
    import fcntl
except ImportError:  # not on every system; there is no lock there
    fcntl = None  # type: ignore[assignment]

__all__ = ["locked", "make_work_dir"]

_NAME = ".lock"
#: What this process holds: the system's locks are a process's own, and not its children's.
_held: set[Path] = set()


def make_work_dir(work_dir: str | Path) -> Path:
    """Make a work directory, if it is not there.

    Args:
        work_dir: its path.

    Returns:
        The path.

    Raises:
        LossweaveError: it cannot be made, or not be written to.
    """
    path = Path(work_dir)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise LossweaveError(f"--work-dir {str(work_dir)!r} cannot be made: {why}") from None
    if not os.access(path, os.W_OK | os.X_OK):
        raise LossweaveError(f"--work-dir {str(work_dir)!r} cannot be written to")
    return path


@contextmanager
def locked(work_dir: str | Path) -> Iterator[None]:
    """Hold a work directory against other trainings; it is made if it is not there.

    The lock is the operating system's: it ends with the process, however that ends, so what a
    killed training has left is taken over, and what it had half-written is removed.

    Args:
        work_dir: the directory.

    Raises:
        LossweaveError: another training holds it, or it cannot be made.

    Example:
        >>> import tempfile
        >>> with locked(tempfile.mkdtemp()):
        ...     pass
    """
    path = make_work_dir(work_dir).resolve() / _NAME
    if path in _held:
        raise LossweaveError(_in_use(work_dir, str(os.getpid())))
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    try:
        file = os.open(path, flags, 0o666)
    except OSError as error:
        raise LossweaveError(f"{path} cannot be written: {error.strerror}") from None
    try:
        if fcntl is not None:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                holder = os.read(file, 200).decode(errors="replace").strip()
                raise LossweaveError(_in_use(work_dir, holder)) from None
        os.ftruncate(file, 0)
        os.write(file, f"{os.getpid()} on {platform.node()}\n".encode())
        _held.add(path)
        _clean(path.parent)
        yield
    finally:
        _held.discard(path)
        os.close(file)


def _clean(folder: Path) -> None:
    """Remove the checkpoints that killed trainings have left half-written, here and in the stages'
    folders; one with a lock of its own is another training's home."""
    stages = (path for path in folder.iterdir() if path.is_dir() and not (path / _NAME).exists())
    for home in (folder, *stages):
        remove_leftovers(home, "*.pth")


def _in_use(work_dir: str | Path, holder: str) -> str:
    who = f" (process {holder})" if holder else ""
    return f"{work_dir} is in use by another training{who}; wait for it, or choose another folder"
