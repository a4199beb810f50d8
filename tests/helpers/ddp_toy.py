"""A toy network with shared and private parameters, also for processes that a test spawns."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from helpers.combiner_cases import TERMS, cases, config
from helpers.ranks import RANKS
from lossweave.combination import LossCombination, build_combination
from lossweave.progress import Progress

PATTERNS = {term: f"loss_{term}" for term in TERMS}


@dataclass(frozen=True)
class Scenario:
    """What one distributed run is like. ``absent`` and ``zero`` are terms on the LAST rank."""

    unused: bool
    absent: str = ""
    zero: str = ""
    accumulation: int = 1
    inside: bool = False
    updates: int = 4

    @property
    def label(self) -> str:
        return repr(self)


#: Term c shares its head with b, so that without ``unused`` every rank reaches all parameters
#: when c is absent, as DDP wants it of any model.
SCENARIOS = (
    Scenario(unused=False),
    Scenario(unused=True, inside=True),
    Scenario(unused=False, absent="c"),
    Scenario(unused=True, absent="a"),
    Scenario(unused=False, zero="a"),
    Scenario(unused=True, absent="c", accumulation=2),
    Scenario(unused=False, zero="b", accumulation=3, inside=True, updates=3),
)


class Toy(nn.Module):
    """Three terms on one trunk: a with a head of its own, b and c with a common one."""

    def __init__(self, combination: LossCombination, inside: bool = False) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.trunk = nn.Linear(4, 5).double()
        self.head_a = nn.Linear(5, 1).double()
        self.head_bc = nn.Linear(5, 2).double()
        for parameter in self.parameters():
            parameter.data = 0.4 * torch.randn(
                parameter.shape, generator=generator, dtype=torch.float64
            )
        self.combination = combination
        self.inside = inside

    def losses(self, x: Tensor, absent: str = "", zero: str = "") -> dict[str, Tensor]:
        shared = torch.tanh(self.trunk(x))
        bc = self.head_bc(shared)
        terms = {
            "a": (self.head_a(shared) - 1).square().mean(),
            "b": 10 * (bc[:, 0] + 0.5).square().mean(),
            "c": (bc[:, 1] + bc[:, 0]).abs().mean() + 0.1,
        }
        if zero:
            terms[zero] = terms[zero] * 0
        return {f"loss_{name}": loss for name, loss in terms.items() if name != absent}

    def forward(self, x: Tensor, absent: str = "", zero: str = "") -> dict[str, Tensor]:
        losses = self.losses(x, absent, zero)
        return {"loss": self.combination(losses)} if self.inside else losses


def shard(iteration: int, rank: int) -> Tensor:
    generator = torch.Generator().manual_seed(1000 * iteration + rank)
    return torch.randn(6, 4, generator=generator, dtype=torch.float64)


def _averaged(model: Toy, iteration: int, scenario: Scenario) -> dict[str, Tensor]:
    """Each term on each rank's shard, averaged over the shards; what is absent counts as 0."""
    total: dict[str, Tensor] = {}
    for rank in range(RANKS):
        last = rank == RANKS - 1
        losses = model.losses(
            shard(iteration, rank), scenario.absent * last, scenario.zero * last
        )
        for name, loss in losses.items():
            total[name] = total[name] + loss / RANKS if name in total else loss / RANKS
    return total


def train(combiner: Any, scenario: Scenario, rank: int | None, **options: Any) -> dict[str, Any]:
    """Train the toy for a few updates and record what the optimizer saw.

    Args:
        combiner: a combiner's configuration.
        scenario: what the run is like.
        rank: this process's rank under DDP, or None for the one-process reference.
        options: passed to ``build_combination``.
    """
    combination = build_combination(combiner, PATTERNS, **options)
    model = Toy(combination, scenario.inside and rank is not None)
    wrapped: nn.Module = model
    if rank is not None:
        wrapped = DistributedDataParallel(model, find_unused_parameters=scenario.unused)
    parameters = list(model.parameters())
    optimizer = torch.optim.SGD(parameters, lr=0.05, momentum=0.9, weight_decay=0.01)
    record: dict[str, Any] = {"grads": []}
    for iteration in range(scenario.updates * scenario.accumulation):
        progress = Progress(iteration, scenario.accumulation, None, 4 * scenario.accumulation)
        combination.set_progress(progress)
        if rank is None:
            root = combination(_averaged(model, iteration, scenario))
            (root / scenario.accumulation).backward()
        else:
            last = rank == RANKS - 1
            inputs = (shard(iteration, rank), scenario.absent * last, scenario.zero * last)
            assert isinstance(wrapped, DistributedDataParallel)
            wrapped.require_backward_grad_sync = progress.last_of_update  # as in no_sync()
            out = wrapped(*inputs)
            root = out["loss"] if scenario.inside else combination(out)
            (root / scenario.accumulation).backward()
        if progress.last_of_update:
            if combination.holds:
                for parameter in combination.held(parameters):
                    parameter.grad = None
            record["grads"].append([None if p.grad is None else p.grad.clone() for p in parameters])
            optimizer.step()
            optimizer.zero_grad()
    record["state"] = {k: v.clone() for k, v in model.state_dict().items()}
    return record


def distributed_cases() -> dict[str, tuple[Any, Scenario]]:
    """By label, every combiner in every scenario."""
    return {
        f"{case} {scenario.label}": (config(case), scenario)
        for case in cases()
        for scenario in SCENARIOS
    }


def work(rank: int, folder: str) -> None:
    """What each of the two processes does: all cases, one after the other."""
    records: dict[str, Any] = {
        label: train(combiner, scenario, rank)
        for label, (combiner, scenario) in distributed_cases().items()
    }
    records["skip"] = skip_on_one_rank(rank)
    records["first"] = first_forward(rank)
    torch.save(records, Path(folder) / f"rank{rank}.pt")


def skip_on_one_rank(rank: int) -> dict[str, Any]:
    """One rank has a nan: both leave out the update."""
    combination = build_combination(config("FAMO"), PATTERNS, on_nonfinite="skip")
    found: dict[str, Any] = {"skipping": []}
    for iteration in range(4):
        combination.set_progress(Progress(iteration))
        values = torch.tensor([1.0, 2.0, 3.0]) * (iteration + 1)
        if rank == 1 and iteration == 2:
            values[1] = torch.nan
        values.requires_grad_()
        losses = {f"loss_{t}": v for t, v in zip(TERMS, values.unbind(), strict=True)}
        combination(losses).backward()
        found["skipping"].append(combination.skipping)
        if iteration in (1, 2):
            found[iteration] = {k: v.clone() for k, v in combination.state_dict().items()}
    return found


def first_forward(rank: int) -> list[str]:
    """A term that only one rank has in the first iteration is no mistake in the patterns."""
    combination = build_combination("Max", PATTERNS)
    names = TERMS if rank == 0 else TERMS[:1]
    values: Mapping[str, Tensor] = {f"loss_{t}": torch.tensor(1.0) for t in names}
    combination(values)
    return list(combination.last())


def reference(combiner: Any, scenario: Scenario) -> dict[str, Any]:
    return train(combiner, replace(scenario, inside=False), None)
