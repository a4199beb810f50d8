"""Two processes that train the toy with hooks of a user's on it, and without."""

from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from helpers.gradient_cases import BOUNDARIES, config
from helpers.gradient_net import PATTERNS, Net, shard
from helpers.ranks import RANKS
from lossweave.combination import build_combination
from lossweave.progress import Progress

CASES = [(case, boundary) for case in ("MGDA", "PCGrad", "GradNorm") for boundary in BOUNDARIES]
#: The parameter whose gradient a hook halves.
HALVED = "trunk.weight"


def step(case: str, boundary: str, rank: int, hooked: bool) -> dict[str, Any]:
    """The gradients after one backward; the last rank has a term less, and one hook more."""
    combination = build_combination(config(case, BOUNDARIES[boundary]), PATTERNS)
    combination.say = lambda message: None
    model = Net(combination)
    calls: Counter[str] = Counter()
    last = rank == RANKS - 1
    if hooked:

        def watch(name: str, tensor: Tensor, factor: float = 1.0) -> None:
            def hook(grad: Tensor) -> Tensor:
                calls[name] += 1
                return factor * grad

            tensor.register_hook(hook)

        def on_output(module: nn.Module, inputs: Any, output: Tensor) -> None:
            watch("trunk", output)

        def on_input(module: nn.Module, inputs: Any) -> None:
            watch("features", inputs[0])

        model.trunk.register_forward_hook(on_output)
        if last:
            model.neck_bc.register_forward_pre_hook(on_input)
        watch("leaf", model.get_parameter(HALVED), 0.5)
    wrapped = DistributedDataParallel(model, find_unused_parameters=True)
    combination.set_progress(Progress(0))
    losses = wrapped(shard(0, rank), "a" * last)
    combination(losses, model=model).backward()
    grads = {n: None if p.grad is None else p.grad.clone() for n, p in model.named_parameters()}
    return {"grads": grads, "calls": dict(calls)}


def work(rank: int, folder: str) -> None:
    """What each process does: all cases, without and with hooks."""
    records = {case: [step(*case, rank, hooked) for hooked in (False, True)] for case in CASES}
    torch.save(records, Path(folder) / f"rank{rank}.pt")
