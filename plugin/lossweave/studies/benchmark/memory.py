"""Peak memory of one call: live bytes, not what an allocator keeps."""

import gc
import warnings
from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from lossweave.utils.torch_compat import began

__all__ = ["bytes_of", "peak_bytes"]


def peak_bytes(call: Callable[[], object], device: str = "cpu") -> int:
    """The most bytes of tensors that are live at once during a call, beyond those before it.

    On a CPU every allocation and release is recorded by torch's profiler and summed up in the
    order of time; on CUDA torch's caching allocator counts.

    Args:
        call: what is measured; run once, and better not for the first time.
        device: 'cpu' or 'cuda'.

    Example:
        >>> peak_bytes(lambda: (torch.ones(1000) + torch.ones(1000)).sum()) >= 3 * 4000
        True
    """
    gc.collect()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        call()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a profiler of one cycle keeps no other's events
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
            call()
    results = found.profiler.kineto_results if found.profiler is not None else None
    assert results is not None
    records = [(began(e), e.nbytes()) for e in results.events() if e.name() == "[memory]"]
    live = peak = 0
    for _, size in sorted(records, key=lambda record: record[0]):
        live += size
        peak = max(peak, live)
    return peak


def bytes_of(tensors: Iterable[Tensor]) -> int:
    """What the elements of some tensors take.

    Example:
        >>> bytes_of([torch.ones(3), torch.ones(2, dtype=torch.float64)])
        28
    """
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
