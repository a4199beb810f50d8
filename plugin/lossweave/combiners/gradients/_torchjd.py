"""Parts of TorchJD, which is imported only where a combiner asks for it."""

import importlib
import importlib.util
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from lossweave.errors import LossweaveError
from lossweave.utils.torch_compat import torchjd_line

__all__ = ["torchjd_part", "unit_trace"]


def unit_trace(gramian: Tensor) -> Tensor:
    """The Gramian divided by its trace: what depends on the rows' common scale no longer does.

    Example:
        >>> import torch
        >>> unit_trace(torch.tensor([[3.0, 0.0], [0.0, 1.0]]))
        tensor([[0.7500, 0.0000],
                [0.0000, 0.2500]])
    """
    return gramian / gramian.diagonal().sum()


def torchjd_part(who: str, name: str, needs: Mapping[str, str] | None = None) -> Any:
    """A class of TorchJD's, which is imported only when a combiner asks for it.

    Args:
        who: the combiner, for the message.
        name: the class's name in ``torchjd.aggregation`` (or ``module:name``).
        needs: the packages that its solver needs, and TorchJD's extra that brings each.

    Raises:
        LossweaveError: one of them is not installed; shows the line to type.
    """
    packages = ("torchjd", *(needs or {}))
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        extra = f"[{next(iter(needs.values()))}]" if needs else ""
        raise LossweaveError(f"{who} needs {', '.join(missing)}; type: {torchjd_line(extra)}")
    module, _, attribute = name.rpartition(":")
    return getattr(importlib.import_module(module or "torchjd.aggregation"), attribute)
