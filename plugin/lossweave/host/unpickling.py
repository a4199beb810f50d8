"""Checkpoints of a work directory hold tensors and plain values, or are not read.

Both frameworks read theirs with ``torch.load``, which by default on older versions, and in
MMEngine always, calls whatever a file names. So the file is looked at first, without calling.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from lossweave.errors import LossweaveError, one_line

__all__ = ["refuse_calls"]

_NUMBERS = ("bool", "complex", "float", "int", "range", "slice")
_CONTAINERS = ("bytearray", "bytes", "dict", "frozenset", "list", "set", "str", "tuple")
_BUILTINS = _NUMBERS + _CONTAINERS
#: What is made of tensors and plain values, by module.
_ALLOWED: dict[str, tuple[str, ...]] = {
    "builtins": _BUILTINS,
    "__builtin__": _BUILTINS,
    "_codecs": ("encode",),
    "collections": ("Counter", "OrderedDict", "defaultdict", "deque"),
    "datetime": ("date", "datetime", "timedelta"),
    "numpy": ("dtype", "ndarray"),
    "numpy._core.multiarray": ("_reconstruct", "scalar"),
    "numpy.core.multiarray": ("_reconstruct", "scalar"),
    "pathlib": ("PosixPath", "WindowsPath"),
    "torch": ("Size", "Tensor", "device"),
    "torch._utils": ("_rebuild_parameter", "_rebuild_tensor", "_rebuild_tensor_v2"),
    "torch.nn.parameter": ("Parameter",),
    "torch.serialization": ("_get_layout",),
}
#: MMEngine's log values pickle their own statistics by name.
_HISTORY = ("mmengine.logging.history_buffer", "HistoryBuffer")
_STATISTICS = ("current", "max", "mean", "min")


class _Refused(Exception):
    """What a file asks for beside tensors and plain values."""


def refuse_calls(path: str | Path, instead: str = "") -> None:
    """Refuse a checkpoint that asks for more than tensors and plain values when it is read.

    Args:
        path: a file in today's format of PyTorch.
        instead: what somebody who trusts it can do.

    Raises:
        LossweaveError: naming what it asks for.

    Example:
        >>> import tempfile, torch
        >>> file = Path(tempfile.mkdtemp()) / "iter_1.pth"
        >>> torch.save({"state_dict": {"w": torch.ones(2)}, "meta": {"iter": 1}}, file)
        >>> refuse_calls(file)
        >>> torch.save({"state_dict": print}, file)
        >>> refuse_calls(file)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        lossweave.errors.LossweaveError: ...iter_1.pth asks for '...print' when it is read...
    """
    hint = f"; {instead}" if instead else ""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            found = [name for name in names if name.endswith("/data.pkl")]
            if len(found) != 1 or any(name.endswith("constants.pkl") for name in names):
                raise _Refused("more than one content")
            _Look(io.BytesIO(archive.read(found[0]))).load()
    except _Refused as error:
        raise LossweaveError(
            f"{path} asks for {error} when it is read; from a work directory only tensors and "
            f"plain values are taken{hint}"
        ) from None
    except Exception as error:  # whatever a damaged file makes of the reader
        raise LossweaveError(
            f"{path} is no checkpoint, or damaged ({one_line(error)}){hint}"
        ) from None


class _Thing(dict):
    """Stands for whatever would be made."""

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None: ...

    def append(self, item: Any) -> None:
        """As a list."""

    def extend(self, items: Any) -> None:
        """As a list."""

    def add(self, item: Any) -> None:
        """As a set."""

    def __hash__(self) -> int:  # type: ignore[override]
        return id(self)


class _History(_Thing):
    """Stands for MMEngine's log values."""


class _Look(pickle.Unpickler):
    """Makes nothing of a pickle, and refuses what is not allowed."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == _HISTORY:
            return _History
        if module in ("builtins", "__builtin__") and name == "getattr":
            return _statistic
        storage = module in ("torch", "torch.storage") and name.endswith("Storage")
        kind = module == "numpy.dtypes" and name.endswith("DType")
        if storage or kind or name in _ALLOWED.get(module, ()) or _is_type(module, name):
            return _Thing
        raise _Refused(f"'{module}.{name}'")

    def persistent_load(self, pid: Any) -> Any:
        return _Thing()


def _is_type(module: str, name: str) -> bool:
    """Whether it is one of PyTorch's types of numbers, e.g. ``torch.float32``."""
    return module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)


def _statistic(owner: Any, name: Any) -> Any:
    if owner is not _History or name not in _STATISTICS:
        raise _Refused(f"'builtins.getattr({owner!r}, {name!r})'")
    return _Thing
