"""Two processes whose first batches have different losses, in a module that a test can spawn."""

from pathlib import Path

import torch
from torch.nn.parallel import DistributedDataParallel

from helpers.ddp_toy import Toy
from lossweave.combination import build_combination
from lossweave.progress import Progress

CASES = [("UncertaintyWeighting", "loss"), ("UncertaintyWeighting", "auto"), ("PCGrad", "loss")]


def work(rank: int, folder: str) -> None:
    """Three updates with every case; term c is absent from rank 0's first batch."""
    records = []
    for combiner, terms in CASES:
        combination = build_combination(combiner, terms)
        toy = Toy(combination)
        model = DistributedDataParallel(toy)  # before the terms are known
        for update in range(3):
            combination.set_progress(Progress(iteration=update))
            generator = torch.Generator().manual_seed(10 * update + rank)
            x = torch.randn(3, 4, generator=generator, dtype=torch.float64)
            losses = model(x, absent="c" if rank == update == 0 else "")
            model.zero_grad()
            combination(losses, model=toy).backward()
        grads = [parameter.grad for parameter in toy.parameters()]
        records.append((combination.names, combination.state_dict(), grads))
    torch.save(records, Path(folder) / f"rank{rank}.pt")
