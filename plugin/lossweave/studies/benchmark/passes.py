"""What forward and backward take, and the backwards that end at a boundary."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lossweave.backward import reachability_of
from lossweave.studies.benchmark.other_steps import summed_terms
from lossweave.studies.benchmark.timing import quiet, seconds_of

__all__ = ["Passes", "Reached", "heads_seconds", "reached", "time_passes"]


class Reached(NamedTuple):
    """A training forward, down to the boundary.

    Args:
        terms: attached scalars.
        tensors: the boundary's, then the leaves above it.
        ends: per term, the positions of the tensors that it reaches.
    """

    terms: list[Tensor]
    tensors: list[Tensor]
    ends: list[list[int]]


def reached(model: Any, batch: Any) -> Reached:
    """Run a training forward.

    Args:
        model: a detector that combines gradients.
        batch: what a data loader would give.
    """
    combination = model.loss_combination
    losses = model._run_forward(model.data_preprocessor(batch, True), mode="loss")
    terms = summed_terms(losses, combination.terms)
    reachability = reachability_of(terms, combination.boundary.take(terms))
    tensors = [*(point.tensor for point in reachability.boundary), *reachability.leaves]
    return Reached(terms, tensors, reachability.terms)


class Passes(NamedTuple):
    """Median seconds.

    Args:
        forward: of the stock forward and parse_losses.
        backward: of the stock backward.
        heads: of the backward from all terms at once down to the features.
        heads_by_term: of that from each term alone.
    """

    forward: float
    backward: float
    heads: float
    heads_by_term: tuple[float, ...]


def time_passes(
    stock: Any, featured: Any, batch: Any, rounds: int, wait: Callable[[], None]
) -> Passes:
    """Time the parts of a step.

    Args:
        stock: the stock detector.
        featured: its twin that combines gradients at the features.
        batch: what a data loader would give.
        rounds: how often each is run, in turn.
        wait: waits for the device.
    """
    total: list[Tensor] = []

    def ahead() -> None:
        torch.manual_seed(0)
        data = stock.data_preprocessor(batch, True)
        total[:] = [stock.parse_losses(stock._run_forward(data, mode="loss"))[0]]

    times = []
    with quiet():
        for number in range(rounds):
            stock.zero_grad()
            whole = [seconds_of(ahead, wait), seconds_of(lambda: total[0].backward(), wait)]
            times.append(whole + heads_seconds(featured, batch, number % 2 == 1, wait))
    forward, backward, heads, *by_term = np.median(np.array(times), axis=0).tolist()
    return Passes(forward, backward, heads, tuple(by_term))


def heads_seconds(featured: Any, batch: Any, flip: bool, wait: Callable[[], None]) -> list[float]:
    """Seconds of the backward from all terms at once down to the features, then of that from each
    term alone.

    The features are aliased, so no backward goes on from one to another below it, and the
    parameters above them that a term reaches are differentiated, too.

    Args:
        featured: a detector that combines gradients at the features.
        batch: what a data loader would give.
        flip: run the last of them first.
        wait: waits for the device.
    """
    torch.manual_seed(0)
    terms, tensors, ends = reached(featured, batch)
    ways = [(terms, tensors)]
    ways += [([term], [tensors[i] for i in some]) for term, some in zip(terms, ends, strict=True)]
    seconds = [
        seconds_of(partial(torch.autograd.grad, *way, retain_graph=True), wait)
        for way in (reversed(ways) if flip else ways)
    ]
    return seconds[::-1] if flip else seconds
