"""The few collectives that a combination needs, on plain ``torch.distributed``."""

from typing import Any

import torch.distributed as dist
from torch import Tensor

__all__ = ["average_", "barrier", "gather_objects", "rank", "sum_", "world_size"]


def world_size() -> int:
    """Number of processes that train together (1 without a process group)."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process's number (0 without a process group)."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def barrier() -> None:
    """Wait until every process has come here (nothing without a process group)."""
    if world_size() > 1:
        dist.barrier()


def sum_(tensor: Tensor) -> Tensor:
    """Sum ``tensor`` over the ranks, in place; the same bits on every rank."""
    if world_size() > 1:
        dist.all_reduce(tensor)
    return tensor


def average_(tensor: Tensor) -> Tensor:
    """Average ``tensor`` over the ranks, in place; the same bits on every rank."""
    size = world_size()
    return sum_(tensor).div_(size) if size > 1 else tensor


def gather_objects(value: Any) -> list[Any]:
    """The ``value`` of every rank, in rank order. Synchronises: for set-up only."""
    size = world_size()
    if size == 1:
        return [value]
    values: list[Any] = [None] * size
    dist.all_gather_object(values, value)
    return values
