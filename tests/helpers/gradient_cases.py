"""How the tests make and run every registered combiner of gradients, on a toy network.

What is special about one combiner is said by its own test, in ``CASES``: ``cases()`` has them all.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from helpers.gather import gathered, name_of
from helpers.gradient_net import PATTERNS, Net, Scenario, shard
from helpers.gradient_reference import CUTS, Reference, gradients
from helpers.ranks import RANKS
from lossweave.combination import build_combination
from lossweave.progress import Progress

BOUNDARIES: dict[str, Any] = {
    "parameters": "parameters",
    "features": "features",
    "representation": "representation",
    "modules": ["trunk*"],
}
assert BOUNDARIES.keys() == CUTS.keys()


@dataclass(frozen=True)
class GradientCase:
    """One way to make a combiner of gradients, and where it differs from what holds for most.

    Args:
        arguments: those of its constructor, but for the boundary.
        reference: what computes it in a straightforward way.
        tolerance: of that, relative to the largest gradient.
        weighting: its weights follow from the Gramian alone.
        scale_free: they do not change where all rows are scaled.
        order_tolerance: how far they may change with the order of the terms; None: it matters.
        as_if_never_there: with a term's row 0 it is the combiner of the others.
        keeps: it takes ``interval``.
        no_term_worse: arguments with which no term is made worse, to first order; None: there
            are none.
        training: arguments that make its state move within a few iterations of a detector.
    """

    arguments: Mapping[str, Any] = field(default_factory=dict)
    reference: type[Reference] = Reference
    tolerance: float = 1e-5
    weighting: bool = True
    scale_free: bool = True
    order_tolerance: float | None = 1e-4
    as_if_never_there: bool = True
    keeps: bool = True
    no_term_worse: Mapping[str, Any] | None = None
    training: Mapping[str, Any] = field(default_factory=dict)


def cases() -> dict[str, GradientCase]:
    """All cases of combiners of gradients, by name."""
    return {name: case for name, case in gathered().items() if isinstance(case, GradientCase)}


def config(case: str, boundary: Any = "parameters") -> dict[str, Any]:
    return {"type": name_of(case), "boundary": boundary, **cases()[case].arguments}


SCENARIOS = (
    Scenario(),
    Scenario(unused=True, inside=True, updates=2),
    Scenario(absent="c", updates=2),
    Scenario(unused=True, absent="a", accumulation=2, updates=2),
    Scenario(zero="b", accumulation=2, inside=True, updates=2),
)


def optimizer_of(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)


def run(
    case: str,
    boundary: str,
    scenario: Scenario,
    rank: int | None,
    scale: float = 1.0,
    device: str = "cpu",
) -> dict[str, Any]:
    """Train the toy through lossweave and record the gradients that the optimizer saw.

    Args:
        rank: this process's rank under DDP; None is one process with the first rank's shard.
        scale: factor on the scalar, as a loss scaler has it; taken out of the gradients.
        device: where it trains.
    """
    combination = build_combination(config(case, BOUNDARIES[boundary]), PATTERNS)
    combination.log = lambda message: None
    model = Net(combination, scenario.inside).to(device)
    wrapped: nn.Module = model
    if rank is not None:
        wrapped = DistributedDataParallel(model, find_unused_parameters=scenario.unused)
    optimizer = optimizer_of(model)
    record: dict[str, Any] = {"grads": [], "weights": []}
    for iteration in range(scenario.updates * scenario.accumulation):
        progress = Progress(iteration, scenario.accumulation)
        combination.set_progress(progress)
        final = rank in (None, RANKS - 1)
        if isinstance(wrapped, DistributedDataParallel):
            wrapped.require_backward_grad_sync = progress.last_of_update  # as in no_sync()
        x = shard(iteration, rank or 0).to(device)
        out = wrapped(x, scenario.absent * final, scenario.zero * final)
        root = out["loss"] if scenario.inside else combination(out, model=model)
        (scale * root / scenario.accumulation).backward()
        record["weights"].append([entry["weight"] for entry in combination.last().values()])
        if progress.last_of_update:
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter.grad /= scale
            record["grads"].append(
                [torch.zeros_like(p) if p.grad is None else p.grad.clone()
                 for p in model.parameters()]
            )  # fmt: skip
            optimizer.step()
            optimizer.zero_grad()
    record["state"] = {k: v.clone() for k, v in model.state_dict().items()}
    record["momentum"] = [s["momentum_buffer"].clone() for s in optimizer.state.values()]
    return record


def expected(
    case: str, boundary: str, scenario: Scenario, world: int = RANKS
) -> list[list[Tensor]]:
    """What :func:`run` should have recorded."""
    given = cases()[case]
    reference = given.reference(name_of(case), given.arguments, world=world)
    model = Net()
    optimizer = optimizer_of(model)
    found, window, values = [], [torch.zeros_like(p) for p in model.parameters()], []
    for iteration in range(scenario.updates * scenario.accumulation):
        progress = Progress(iteration, scenario.accumulation)
        grads, mean = gradients(
            model, reference, boundary, iteration, scenario, progress.update,
            progress.last_of_update,
        )  # fmt: skip
        values.append(mean)
        for total, grad in zip(window, grads, strict=True):
            total += grad / scenario.accumulation
        if progress.last_of_update:
            reference.learn(torch.stack(values).mean(0))
            values = []
            found.append([grad.clone() for grad in window])
            for parameter, grad in zip(model.parameters(), window, strict=True):
                parameter.grad = grad.clone()
                grad.zero_()
            optimizer.step()
    return found


def distributed_cases() -> dict[str, tuple[str, str, Scenario]]:
    return {
        f"{case} {boundary} {number}": (case, boundary, scenario)
        for case in cases()
        for boundary in BOUNDARIES
        for number, scenario in enumerate(SCENARIOS)
    }


def long_cases() -> dict[str, tuple[str, str, Scenario]]:
    """Twenty updates, with a term that is zero, as without positives, or absent on one rank."""
    zero, absent = Scenario(zero="b", updates=20), Scenario(True, absent="c", updates=20)
    return {
        f"{case} {boundary} {number} long": (case, boundary, scenario)
        for case in cases()
        for number, (boundary, scenario) in enumerate(
            [("parameters", zero), ("features", absent)]
        )
    }


def work(rank: int, folder: str) -> None:
    """What each of the two processes does: all cases, one after the other."""
    cases = {**distributed_cases(), **long_cases()}
    records = {label: run(*case, rank) for label, case in cases.items()}
    torch.save(records, Path(folder) / f"rank{rank}.pt")

