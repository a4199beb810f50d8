"""The terms' gradients combined in a straightforward way, to compare with.

The terms' rows over what they share are flattened into one matrix, averaged over the ranks'
shards, and handed to TorchJD's aggregator, or to what a combiner's own test puts in its place;
private parameters keep their plain gradient. It runs in one process and knows nothing of
lossweave's backward pass.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torchjd import aggregation

from helpers.gradient_net import TERMS, Net, Scenario, shard
from lossweave.combiners._random import generator_for
from lossweave.combiners.gradients.pcgrad import seeded

CUTS = {
    "parameters": (),
    "features": ("features",),
    "representation": ("head",),
    "modules": ("trunk",),
}


class Reference:
    """One combiner, the plain way, over the shards of all ranks: TorchJD's aggregator of its name.

    A combiner that is not TorchJD's, or has state, subclasses it in its own test.

    Args:
        name: the combiner.
        arguments: its arguments; those of the constructor that TorchJD shares, and ours.
        terms: how many there are.
        world: ranks.
    """

    #: Arguments that are not the aggregator's.
    ours: ClassVar[tuple[str, ...]] = ("seed", "private")
    #: The terms' mean losses, those of the rows that are combined.
    values: Tensor
    #: How many of the columns, the first ones, belong to a batch.
    beside: int
    #: Private parameters get the term's gradient times its weight.
    weighted = False

    def __init__(
        self, name: str, arguments: Mapping[str, Any], terms: int = len(TERMS), world: int = 2
    ) -> None:
        self.name, self.arguments = name, dict(arguments)
        self.terms, self.world = terms, world
        self.weighted = self.weighted or self.arguments.get("private") == "weighted"
        self.start({k: v for k, v in self.arguments.items() if k not in self.ours})

    def start(self, options: dict[str, Any]) -> None:
        """Make what :meth:`combine_alive` needs."""
        self.aggregator = getattr(aggregation, self.name)(**options)

    def combine(self, rows: Tensor, update: int, draws: Tensor, last: bool) -> Tensor:
        """The combined row of the matrix (K, P).

        Args:
            update: how many there were before.
            draws: uniform numbers for its columns.
            last: whether the update ends with it.
        """
        alive = [k for k in range(len(rows)) if rows[k].norm() > 0]
        if len(alive) == 1:
            return rows[alive[0]]
        return self.combine_alive(rows[alive], alive, update, draws, last)

    def combine_alive(
        self, rows: Tensor, alive: list[int], update: int, draws: Tensor, last: bool
    ) -> Tensor:
        """The same of two or more rows that are not zero, those of the terms ``alive``."""
        aggregator = self.aggregator if last else copy.deepcopy(self.aggregator)
        size = rows.norm()
        with seeded(self.arguments.get("seed", 0), update):
            return aggregator(rows / size) * size

    def learn(self, values: Tensor) -> None:
        """Learn from the update's mean losses."""

    def private_weights(self, rows: Tensor, combined: Tensor) -> Tensor:
        """The terms' weights for private parameters, where :attr:`weighted`."""
        return torch.linalg.pinv(rows.T) @ combined


def gradients(
    model: Net, reference: Reference, boundary: str, iteration: int, scenario: Scenario,
    update: int, last: bool,
) -> tuple[list[Tensor], Tensor]:
    """The combined gradient of every parameter, averaged over the shards; the mean losses."""
    parameters = list(model.parameters())
    model.cutting = CUTS[boundary]
    world = reference.world
    shards = []
    for rank in range(world):
        final = rank == world - 1
        model.cuts = []
        losses = model.losses(
            shard(iteration, rank), scenario.absent * final, scenario.zero * final
        )
        terms = [losses.get(f"loss_{term}") for term in TERMS]
        leaves = [leaf for _, leaf in model.cuts]
        grads = [_grads(term, [*leaves, *parameters]) for term in [*terms, losses["loss_x"]]]
        shards.append((model.cuts, terms, grads))
    model.cutting, model.cuts = (), []
    count = len(shards[0][0])

    reached = [
        [any(grads[k][count + p] is not None for _, _, grads in shards) for k in range(len(TERMS))]
        for p in range(len(parameters))
    ]
    shared = [p for p in range(len(parameters)) if sum(reached[p]) > 1]

    def zero(grad: Tensor | None, like: Tensor) -> Tensor:
        return torch.zeros_like(like) if grad is None else grad

    matrix, draws = [], []
    for k in range(len(TERMS)):
        parts = []
        for rank, (cuts, _, grads) in enumerate(shards):
            for i, (_, leaf) in enumerate(cuts):
                parts.append(zero(grads[k][i], leaf).flatten() / world)
                if k == 0:
                    draws.append(_drawn(reference, update, 2 * (world * i + rank) + 1, leaf))
        for p in shared:
            rows = [zero(grads[k][count + p], parameters[p]) for _, _, grads in shards]
            parts.append(sum(rows).flatten() / world)
            if k == 0:
                draws.append(_drawn(reference, update, 2 * p, parameters[p]))
        matrix.append(torch.cat(parts))
    values = torch.stack(
        [sum(zero(None if t[k] is None else t[k].detach(), torch.zeros(()).double())
             for _, t, _ in shards) / world for k in range(len(TERMS))]
    )  # fmt: skip
    reference.values = values
    reference.beside = sum(leaf.numel() for cuts, _, _ in shards for _, leaf in cuts)
    rows = torch.stack(matrix)
    combined = reference.combine(rows, update, torch.cat(draws), last)
    weights = torch.ones(len(rows), dtype=torch.float64)
    if reference.weighted:
        weights = reference.private_weights(rows, combined)

    results = [torch.zeros_like(p) for p in parameters]
    start = 0
    for cuts, _, _ in shards:
        for tensor, leaf in cuts:
            part = combined[start : start + leaf.numel()].view_as(leaf)
            start += leaf.numel()
            for p, grad in enumerate(
                torch.autograd.grad(tensor, parameters, part, retain_graph=True, allow_unused=True)
            ):
                results[p] += zero(grad, parameters[p])
    for p in shared:
        part = combined[start : start + parameters[p].numel()].view_as(parameters[p])
        start += parameters[p].numel()
        results[p] += part
    for p, parameter in enumerate(parameters):
        for _, _, grads in shards:
            if p not in shared:
                for k in range(len(TERMS)):
                    results[p] += weights[k] * zero(grads[k][count + p], parameter) / world
            results[p] += zero(grads[-1][count + p], parameter) / world
    for cuts, _, grads in shards:  # the entry of no term, below the cut
        for (tensor, _), grad in zip(cuts, grads[-1], strict=False):
            if grad is not None:
                below = torch.autograd.grad(
                    tensor, parameters, grad, retain_graph=True, allow_unused=True
                )
                for p, part in enumerate(below):
                    results[p] += zero(part, parameters[p]) / world
    return results, values


def _grads(term: Tensor | None, inputs: Sequence[Tensor]) -> list[Tensor | None]:
    if term is None:
        return [None] * len(inputs)
    return list(torch.autograd.grad(term, inputs, retain_graph=True, allow_unused=True))


def _drawn(reference: Reference, update: int, key: int, like: Tensor) -> Tensor:
    seed = generator_for(reference.arguments.get("seed", 0), update, key).initial_seed()
    return torch.rand(like.numel(), generator=torch.Generator().manual_seed(seed)).double()
