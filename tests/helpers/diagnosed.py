"""A plain loop over losses whose gradients are known, watched."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lossweave.combination import build_combination
from lossweave.studies.diagnose.record import Record
from lossweave.studies.diagnose.watch import Plan, Watch

#: Given the shared vector and the iteration, the losses.
Losses = Callable[[Tensor, int], Mapping[str, Tensor]]


class Shared(nn.Module):
    """One vector that all terms see."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.vector = nn.Parameter(torch.zeros(size))


def watched(
    losses: Losses,
    iterations: int = 16,
    size: int = 64,
    make: Callable[..., Any] = torch.optim.SGD,
    clip: float | None = None,
    accumulation: int = 1,
    interval: int = 1,
    watch: bool = True,
    still: int = 0,
    **options: Any,
) -> tuple[Record | None, Tensor]:
    """The record of a training with two terms, and the parameters at its end.

    Args:
        losses: ``loss_a`` and ``loss_b``, and others.
        iterations: of training.
        size: of the vector.
        make: the optimizer's class.
        clip: the largest length of a gradient.
        accumulation: iterations of an update.
        interval: updates from look to look.
        watch: whether anybody looks.
        still: batches after that, on which the weights stand still.
        options: the optimizer's.
    """
    model = Shared(size)
    combination = build_combination("Sum", {"a": "loss_a", "b": "loss_b"})
    optimizer = make(model.parameters(), **{"lr": 1e-6, **options})
    looking = Watch(Plan(interval, {"all": (0, iterations)}))
    if watch:
        looking.begin(model, combination, [optimizer])
    for i in range(iterations + still):
        if i == iterations:
            looking.stand_still()
        if watch:
            looking.before(i, accumulation)
        found = losses(model.vector, i)
        root = combination(found, sum(found.values()))
        (root / accumulation).backward()
        if (i + 1) % accumulation == 0:
            if clip is not None:
                nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
            optimizer.zero_grad()
        if watch:
            looking.after(i)
    looking.end()
    vector = model.vector.detach().clone()
    return (looking.record(iterations, 1.0) if watch else None), vector
