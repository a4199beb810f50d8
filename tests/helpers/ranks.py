"""Processes that compute together over gloo, for the tests: started, watched and taken down."""

import os
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

RANKS = 2


def spawn(work: Callable[..., None], *args: Any, ranks: int = RANKS, seconds: float = 600) -> None:
    """Run ``work(rank, *args)`` in so many processes of one group, and wait for them.

    Raises:
        torch.multiprocessing.ProcessRaisedException: What a rank raised.
        TimeoutError: The ranks were not done after ``seconds``; they are killed.
    """
    with tempfile.TemporaryDirectory() as folder:
        store = str(Path(folder) / "store")
        context = mp.spawn(_rank, args=(work, ranks, store, args), nprocs=ranks, join=False)
        end = time.monotonic() + seconds
        while not context.join(timeout=1):
            if time.monotonic() > end:
                for process in context.processes:
                    process.kill()
                raise TimeoutError(f"{work.__name__} was not done after {seconds} s")


def _rank(rank: int, work: Callable[..., None], ranks: int, store: str, args: tuple) -> None:
    torch.set_num_threads(1)
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(ranks), MASTER_ADDR="127.0.0.1"
    )
    waits = timedelta(seconds=300)  # for a rank that has raised
    files = dist.FileStore(store, ranks)
    dist.init_process_group("gloo", store=files, rank=rank, world_size=ranks, timeout=waits)
    work(rank, *args)
    leave()


def leave() -> None:
    """End the group.

    Until torch 2.2 the end holds the interpreter's lock while it waits for gloo's threads, and
    such a thread may be waiting for that lock to free the tensors of the last exchange: a deadlock
    of a run in some hundred. A barrier and a pause give it the time before.
    """
    dist.barrier()
    time.sleep(0.05)
    dist.destroy_process_group()
