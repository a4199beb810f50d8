"""A toy network for combiners of gradients, and a straightforward computation beside them.

The reference flattens the terms' rows over what they share into one matrix, averages over the
ranks' shards, and hands it to TorchJD's aggregator; private parameters keep their plain
gradient. It runs in one process and knows nothing of lossweave's backward pass.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torchjd import aggregation

from lossweave.combination import LossCombination, build_combination
from lossweave.combiners._random import generator_for
from lossweave.combiners.gradients.pcgrad import seeded
from lossweave.progress import Progress

TERMS = ("a", "b", "c", "d")
PATTERNS = {term: f"?loss_{term}" for term in TERMS}
WORLD = 2
BOUNDARIES: dict[str, Any] = {
    "parameters": "parameters",
    "features": "features",
    "representation": "representation",
    "modules": ["trunk*"],
}

#: Arguments of each gradient combiner in these tests; a case is named by its combiner, or by
#: it and what is special.
CASES: dict[str, dict[str, Any]] = {
    "AlignedMTL": {},
    "CAGrad": {"c": 0.4},
    "ConFIG": {},
    "DualProj": {},
    "FairGrad": {"alpha": 1.0},
    "GradDrop": {"seed": 5},
    "GradNorm": {"alpha": 1.0, "lr": 0.1},
    "GradVac": {"seed": 2},
    "IMTLG": {},
    "MGDA": {},
    "NashMTL": {},
    "PCGrad": {"seed": 3},
    "UPGrad": {},
    "PCGrad weighted": {"private": "weighted"},
}


def name_of(case: str) -> str:
    return case.split(" ")[0]


def config(case: str, boundary: Any = "parameters") -> dict[str, Any]:
    return {"type": name_of(case), "boundary": boundary, **CASES[case]}


# ------------------------------------------------------------------------------- the network


class Net(nn.Module):
    """A trunk, two necks (one for a and d, one for b and c) with a head of two outputs each."""

    def __init__(self, combination: LossCombination | None = None, inside: bool = False) -> None:
        super().__init__()
        self.trunk = nn.Linear(4, 6).double()
        self.neck_ad = nn.Linear(6, 5).double()
        self.neck_bc = nn.Linear(6, 5).double()
        self.head_ad = nn.Linear(5, 2).double()
        self.head_bc = nn.Linear(5, 2).double()
        self.head_x = nn.Linear(6, 1).double()
        generator = torch.Generator().manual_seed(0)
        for parameter in self.parameters():
            drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.data = 0.6 * drawn
        self.combination = combination
        self.inside = inside
        self.cutting: tuple[str, ...] = ()  # by the reference
        self.cuts: list[tuple[Tensor, Tensor]] = []

    def losses(self, x: Tensor, absent: str = "", zero: str = "") -> dict[str, Tensor]:
        trunk = self._at("trunk", self.trunk(x))
        features = self._at("features", torch.tanh(trunk))
        if self.combination is not None and self.combination.boundary is not None:
            features = self.combination.boundary.features(features)
        ad = self._at("head", self.head_ad(torch.relu(self.neck_ad(features))))
        bc = self._at("head", self.head_bc(torch.relu(self.neck_bc(features))))
        terms = {
            "a": (ad[:, 0] - 1).square().mean(),
            "b": 5 * (bc[:, 0] + 0.5).square().mean(),
            "c": (bc[:, 1] + bc[:, 0]).abs().mean() + 0.1,
            "d": (ad[:, 1] + ad[:, 0] - 2).square().mean(),
        }
        if zero:
            terms[zero] = terms[zero] * 0
        found = {f"loss_{name}": loss for name, loss in terms.items() if name != absent}
        found["loss_x"] = 0.3 * self.head_x(features).square().mean()  # belongs to no term
        return found

    def forward(self, x: Tensor, absent: str = "", zero: str = "") -> dict[str, Tensor]:
        boundary = None if self.combination is None else self.combination.boundary
        if boundary is None:
            return self.losses(x, absent, zero)
        with boundary.caught(self):
            losses = self.losses(x, absent, zero)
        if self.inside:
            assert self.combination is not None
            return {"loss": self.combination(losses, model=self)}
        return losses

    def _at(self, name: str, tensor: Tensor) -> Tensor:
        if name not in self.cutting:
            return tensor
        leaf = tensor.detach().requires_grad_()
        self.cuts.append((tensor, leaf))
        return leaf


def shard(iteration: int, rank: int) -> Tensor:
    generator = torch.Generator().manual_seed(1000 * iteration + rank)
    return torch.randn(6, 4, generator=generator, dtype=torch.float64)


# ---------------------------------------------------------------------------- the reference

CUTS = {
    "parameters": (),
    "features": ("features",),
    "representation": ("head",),
    "modules": ("trunk",),
}


class Reference:
    """One combiner, the plain way, over the shards of all ranks."""

    def __init__(self, case: str, terms: int = len(TERMS), world: int = WORLD) -> None:
        self.name, self.arguments = name_of(case), CASES[case]
        self.world = world
        self.weighted = self.name == "GradNorm" or self.arguments.get("private") == "weighted"
        own = {k: v for k, v in self.arguments.items() if k not in ("seed", "private")}
        if self.name == "NashMTL":
            self.aggregators: Any = {
                n: aggregation.NashMTL(n) for n in range(1, terms + 1)
            }
            self.alpha = torch.ones(terms, dtype=torch.float64)
        elif self.name == "GradNorm":
            self.weights = nn.Parameter(torch.ones(terms, dtype=torch.float64))
            self.adam = torch.optim.Adam([self.weights], lr=own["lr"])
            self.first: Tensor | None = None
            self.window: list[Tensor] = []
            self.values: list[Tensor] = []
        else:
            self.aggregator = getattr(aggregation, self.name)(**own)

    def combine(self, rows: Tensor, update: int, draws: Tensor, last: bool) -> Tensor:
        """The combined row of the matrix (K, P), and what the weights of terms are."""
        norms = rows.norm(dim=1)
        alive = [k for k in range(len(rows)) if norms[k] > 0]
        rows = rows[alive]
        if self.name == "GradNorm":
            self.window.append(norms)
            self.known = alive
            return self.weights.detach()[alive] @ rows
        if len(alive) == 1:
            return rows[0]
        size = rows.norm()
        if self.name == "FairGrad":
            return self.aggregator(rows)
        if self.name == "NashMTL":
            weighting = self.aggregators[len(alive)].weighting
            if weighting.step == 0:
                weighting(torch.eye(len(alive), dtype=torch.float64))
            weighting.prvs_alpha = self.alpha[alive].numpy()
            unit = rows / (rows @ rows.T).norm().sqrt()
            combined = weighting(unit) @ unit
            if last:
                self.alpha[alive] = torch.from_numpy(weighting.prvs_alpha).double()
            return combined
        aggregator = self.aggregator if last else copy.deepcopy(self.aggregator)
        if self.name == "GradDrop":
            with patch("torch.rand", return_value=draws):
                return aggregator(rows)
        with seeded(self.arguments.get("seed", 0), update):
            return aggregator(rows / size) * size

    def learn(self, values: Tensor) -> None:
        """GradNorm's step, by torch's own Adam and autograd, at the end of an update."""
        if self.name != "GradNorm":
            return
        norms = torch.stack(self.window).mean(0)
        self.window = []
        if self.first is None:
            self.first = values
        ratios = values / self.first
        known = self.known
        lengths = self.weights[known] * norms[known]
        ratio = ratios[known] / ratios[known].mean()
        target = (lengths.mean() * ratio ** self.arguments["alpha"]).detach()
        self.adam.zero_grad()
        ((lengths - target).abs().sum() / norms[known].mean()).backward()
        before = self.weights.detach().clone()
        self.adam.step()
        with torch.no_grad():
            self.weights *= before[known].sum() / self.weights[known].sum()

    def private_weight(self, k: int, weights: Tensor | None) -> float:
        if not self.weighted:
            return 1.0
        assert weights is not None
        return float(weights[k])


def gradients(
    model: Net, reference: Reference, boundary: str, iteration: int, scenario: "Scenario",
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
    rows = torch.stack(matrix)
    combined = reference.combine(rows, update, torch.cat(draws), last)
    weights = None
    if reference.name == "GradNorm":
        weights = reference.weights.detach().clone()
    elif reference.weighted:  # what the weights were, from the combination itself
        weights = torch.linalg.pinv(rows.T) @ combined

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
                    weight = reference.private_weight(k, weights)
                    results[p] += weight * zero(grads[k][count + p], parameter) / world
            results[p] += zero(grads[-1][count + p], parameter) / world
    for cuts, _, grads in shards:  # the entry of no term, below the cut
        for (tensor, _), grad in zip(cuts, grads[-1], strict=False):
            if grad is not None:
                below = torch.autograd.grad(
                    tensor, parameters, grad, retain_graph=True, allow_unused=True
                )
                for p, part in enumerate(below):
                    results[p] += zero(part, parameters[p]) / world
    values = torch.stack(
        [sum(zero(None if t[k] is None else t[k].detach(), torch.zeros(()).double())
             for _, t, _ in shards) / world for k in range(len(TERMS))]
    )  # fmt: skip
    return results, values


def _grads(term: Tensor | None, inputs: Sequence[Tensor]) -> list[Tensor | None]:
    if term is None:
        return [None] * len(inputs)
    return list(torch.autograd.grad(term, inputs, retain_graph=True, allow_unused=True))


def _drawn(reference: Reference, update: int, key: int, like: Tensor) -> Tensor:
    seed = generator_for(reference.arguments.get("seed", 0), update, key).initial_seed()
    return torch.rand(like.numel(), generator=torch.Generator().manual_seed(seed)).double()


# --------------------------------------------------------------------------------- the runs


@dataclass(frozen=True)
class Scenario:
    """What one run is like. ``absent`` and ``zero`` are terms on the LAST rank."""

    unused: bool = False
    absent: str = ""
    zero: str = ""
    accumulation: int = 1
    inside: bool = False
    updates: int = 3


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
    case: str, boundary: str, scenario: Scenario, rank: int | None, scale: float = 1.0
) -> dict[str, Any]:
    """Train the toy through lossweave and record the gradients that the optimizer saw.

    Args:
        rank: this process's rank under DDP; None is one process with the first rank's shard.
        scale: factor on the scalar, as a loss scaler has it; taken out of the gradients.
    """
    combination = build_combination(config(case, BOUNDARIES[boundary]), PATTERNS)
    combination.say = lambda message: None
    model = Net(combination, scenario.inside)
    wrapped: nn.Module = model
    if rank is not None:
        wrapped = DistributedDataParallel(model, find_unused_parameters=scenario.unused)
    optimizer = optimizer_of(model)
    record: dict[str, Any] = {"grads": [], "weights": []}
    for iteration in range(scenario.updates * scenario.accumulation):
        progress = Progress(iteration, scenario.accumulation)
        combination.set_progress(progress)
        final = rank in (None, WORLD - 1)
        if isinstance(wrapped, DistributedDataParallel):
            wrapped.require_backward_grad_sync = progress.last_of_update  # as in no_sync()
        out = wrapped(shard(iteration, rank or 0), scenario.absent * final, scenario.zero * final)
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
    case: str, boundary: str, scenario: Scenario, world: int = WORLD
) -> list[list[Tensor]]:
    """What :func:`run` should have recorded."""
    reference = Reference(case, world=world)
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
        for case in CASES
        for boundary in BOUNDARIES
        for number, scenario in enumerate(SCENARIOS)
    }


def long_cases() -> dict[str, tuple[str, str, Scenario]]:
    """Twenty updates, with a term that is zero, as without positives, or absent on one rank."""
    zero, absent = Scenario(zero="b", updates=20), Scenario(True, absent="c", updates=20)
    return {
        f"{case} {boundary} {number} long": (case, boundary, scenario)
        for case in CASES
        for number, (boundary, scenario) in enumerate(
            [("parameters", zero), ("features", absent)]
        )
    }


def work(rank: int, folder: str) -> None:
    """What each of the two processes does: all cases, one after the other."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=WORLD
    )
    cases = {**distributed_cases(), **long_cases()}
    records = {label: run(*case, rank) for label, case in cases.items()}
    torch.save(records, Path(folder) / f"rank{rank}.pt")
    dist.destroy_process_group()

