"""A mode that sees what of a step on fake CUDA tensors would wait for the device."""

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

__all__ = ["CUDA", "Guard"]

CUDA = torch.device("cuda:0")
READS_THE_HOST = (
    "_local_scalar_dense",
    "item",
    "is_nonzero",
    "nonzero",
    "masked_select",
    "equal",
    "_unique",
    "_unique2",
    "unique_dim",
    "bincount",
)


class Guard(TorchDispatchMode):
    """Fails on what waits for the device, and counts what is sent to it.

    Args:
        reads: how many tensors may be brought to the host; what was brought is counted.
    """

    def __init__(self, reads: int = 0) -> None:
        super().__init__()
        self.sent: list[int] = []
        self.allowed, self.read = reads, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        tensors = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, Tensor)]
        on_device = any(x.device.type == "cuda" for x in tensors)
        assert not (name in READS_THE_HOST and on_device), f"{func} waits for the device"
        if name in ("index", "index_put", "index_put_", "_index_put_impl_"):
            masks = [x for x in tree_flatten(args[1])[0] if isinstance(x, Tensor)]
            assert all(x.dtype != torch.bool for x in masks), f"{func} by a mask waits"
        out = func(*args, **kwargs)
        moved_to = {x.device.type for x in tree_flatten(out)[0] if isinstance(x, Tensor)}
        if (
            name in ("_to_copy", "to", "copy_", "copy")
            and len({*moved_to, *(x.device.type for x in tensors)}) > 1
        ):
            source = args[1] if name.startswith("copy") else args[0]
            if source.device.type != "cpu":
                self.read += 1
                assert self.read <= self.allowed, f"{func} brings a tensor to the host and waits"
                return out
            asynchronous = kwargs.get("non_blocking", False) or args[2:3] == (True,)
            assert asynchronous, f"{func} of {tuple(source.shape)} to the device waits"
            self.sent.append(source.numel())
        elif on_device:
            strangers = [x for x in tensors if x.device.type == "cpu" and x.dim() > 0]
            assert not strangers, f"{func} mixes devices"
        return out
