"""Counting the places where the host must wait for the device."""

import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["count_syncs"]

#: Operators whose result the host needs before it can go on.
_WAITING = (
    "aten::_local_scalar_dense",  # item, float, int, bool, tolist of one number
    "aten::equal",
    "aten::nonzero",
    "aten::masked_select",
    "aten::_unique2",
)


class _Counter(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name
        if name in _WAITING:
            self.found[name] += 1
        elif name in ("aten::index", "aten::index_put_", "aten::index_put"):
            # indexing by a mask is a nonzero on the device
            masks = [i for i in args[1] if i is not None and i.dtype in (torch.bool, torch.uint8)]
            self.found[name] += bool(masks)
        return func(*args, **(kwargs or {}))


def count_syncs(step: Callable[[], object], device: str | torch.device = "cpu") -> int:
    """How often a step makes the host wait for the device.

    On CUDA these are torch's own reports of synchronising calls. On a CPU nothing waits, so
    the operators are counted that would.

    Args:
        step: what is watched.
        device: where its tensors are.

    Example:
        >>> count_syncs(lambda: torch.ones(2).sum().item())
        1
        >>> count_syncs(lambda: torch.ones(2).sum())
        0
    """
    if torch.device(device).type == "cuda":
        return _reported_by_cuda(step)
    with _Counter() as counter:
        step()
    return sum(counter.found.values())


def _reported_by_cuda(step: Callable[[], object]) -> int:
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            step()
        finally:
            torch.cuda.set_sync_debug_mode(before)
    return sum("synchronizing" in str(warning.message) for warning in caught)
