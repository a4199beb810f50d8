"""Checkpoints to go on from: which are whole, which is the newest, what is in one."""

import collections
import io
import pickle
import re
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from lossweave.errors import LossweaveError

__all__ = ["check_resumable", "contents", "is_whole", "newest_whole"]

#: What the frameworks call the checkpoints that a training goes on from.
_NAMES = re.compile(r"(?:iter|epoch|model)_(?:\d+|final)\.pth")
_TAG = "last_checkpoint"


def newest_whole(folder: str | Path, log: Callable[[str], Any]) -> Path | None:
    """The newest checkpoint of a work directory that is whole.

    Args:
        folder: the directory.
        log: where a newer one that is damaged is told of.

    Returns:
        Its path; None where there is no checkpoint.

    Raises:
        LossweaveError: there are only damaged ones.
    """
    home = Path(folder)
    found = [path for path in home.glob("*.pth") if _NAMES.fullmatch(path.name)]
    tagged = _tagged(home)
    if tagged is not None and tagged not in found:
        found.append(tagged)
    found.sort(key=lambda path: (path.stat().st_mtime_ns, path.name), reverse=True)
    for path in found:
        if is_whole(path):
            if path is not found[0]:
                log(f"{found[0]} is not whole; going on from {path}")
            return path
    if found:
        raise LossweaveError(
            f"{folder} has no whole checkpoint to go on from: {found[0].name} is damaged; remove "
            "it to begin anew"
        )
    return None


def _tagged(home: Path) -> Path | None:
    """What the framework has noted as the last one, whatever its name."""
    try:
        name = (home / _TAG).read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return None
    path = home / Path(name).name
    return path if name and path.is_file() else None


def is_whole(path: str | Path) -> bool:
    """Whether a checkpoint was written to its end.

    Args:
        path: the file, in today's format of PyTorch or the one before.

    Example:
        >>> import tempfile, torch
        >>> file = Path(tempfile.mkdtemp()) / "iter_1.pth"
        >>> torch.save({"state_dict": {}}, file)
        >>> whole = is_whole(file)
        >>> _ = file.write_bytes(file.read_bytes()[:-9])
        >>> whole, is_whole(file)
        (True, False)
    """
    try:
        return bool(contents(path))
    except LossweaveError:
        return False


def contents(path: str | Path) -> set[str]:
    """The names of what a checkpoint holds, read without tensors and without running anything.

    Args:
        path: the file.

    Raises:
        LossweaveError: it is missing, damaged, or no checkpoint.
    """
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                names = [name for name in archive.namelist() if name.endswith("/data.pkl")]
                file: Any = io.BytesIO(archive.read(names[0]))
            made = _Names(file).load()
        else:
            made = _old_format(path)
    except FileNotFoundError:
        raise LossweaveError(f"there is no checkpoint {str(path)!r}") from None
    except IsADirectoryError:
        raise LossweaveError(f"{str(path)!r} is a folder, not a checkpoint") from None
    except Exception as error:  # whatever a damaged file makes of the reader
        raise LossweaveError(f"{path} is damaged, or no checkpoint ({error})") from None
    if not isinstance(made, dict):
        raise LossweaveError(f"{path} is no checkpoint: it holds no dict")
    return {str(key) for key in made}


def _old_format(path: str | Path) -> Any:
    """A file as PyTorch wrote them before 1.6: four pickles, then the tensors' numbers."""
    with open(path, "rb") as file:
        for _ in range(3):  # magic number, version, system
            _Names(file).load()
        made = _Names(file).load()
        _Names(file).load()  # the storages, and after them their numbers
        if not file.read(1):
            raise EOFError("it ends before its tensors")
        return made


class _Anything(dict):
    """Stands for whatever a pickle would make."""

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None: ...

    def append(self, item: Any) -> None:
        """Lists are filled so."""

    def extend(self, items: Iterable[Any]) -> None:
        """Or so."""

    def __hash__(self) -> int:  # type: ignore[override]
        return id(self)


class _Names(pickle.Unpickler):
    """Makes the dicts of a pickle, and nothing else of what it asks for."""

    def find_class(self, module: str, name: str) -> Any:
        plain = (module, name) == ("collections", "OrderedDict")
        return collections.OrderedDict if plain else _Anything

    def persistent_load(self, pid: Any) -> Any:
        return _Anything()


def check_resumable(path: str | Path, needed: Iterable[str]) -> None:
    """Refuse to go on from a checkpoint that lacks what that takes.

    Args:
        path: the file.
        needed: names of what it must hold.

    Raises:
        LossweaveError: it is missing or damaged, or holds weights alone, say.
    """
    found = contents(path)
    missing = [name for name in needed if name not in found]
    if missing:
        raise LossweaveError(
            f"{path} cannot be resumed from: it has no {', '.join(missing)}; to start from its "
            "weights, name it in the config (load_from, MODEL.WEIGHTS, train.init_checkpoint)"
        )
