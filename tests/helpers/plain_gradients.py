"""The gradient that a combiner should leave in a detector, computed without lossweave.

Each term of a STOCK detector is differentiated by itself on every rank's shard, down to detached
copies of the boundary's tensors and to the parameters; the rows over what two or more terms
share are averaged over the shards, flattened into one matrix, and given to TorchJD's aggregator.
Private parameters keep their plain gradient.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torchjd import aggregation

from helpers.gather import gathered
from helpers.gradient_reference import Reference
from lossweave.combiners import combiner_class
from lossweave.combiners._random import generator_for

Shard = tuple[list[tuple[Tensor, Tensor]], list[list[Tensor | None]], list[float]]
PATTERNS = {"cls": ("cls",), "loc": ("bbox",)}
#: Those that have a reference of their own, as they keep something over the updates.
_AS_TORCHJD = ("FairGrad", "GradDrop", "GradNorm", "NashMTL")
#: What 'representation' comes down to in each detector.
MODULES = {"faster_rcnn": ("rpn_head.rpn_conv", "roi_head.bbox_head.shared_fcs.1")}


def aggregator_of(name: str, update: int = 0) -> Callable[[Tensor, Tensor], Tensor]:
    """From (rows, draws) to the combined row, as TorchJD has it; zero rows are left out."""
    arguments: dict[str, Any] = {"CAGrad": {"c": 0.5}, "FairGrad": {"alpha": 1.0}}.get(name, {})

    def combine(rows: Tensor, draws: Tensor) -> Tensor:
        rows = rows[rows.norm(dim=1) > 0]
        if name == "GradNorm":  # its weights are 1 at first
            return rows.sum(0)
        if len(rows) == 1:
            return rows[0]
        if name == "NashMTL":
            size = (rows @ rows.T).norm().sqrt()
            return aggregation.NashMTL(len(rows))(rows / size)
        make = getattr(aggregation, name)(**arguments)
        if name == "GradDrop":
            with patch("torch.rand", return_value=draws):
                return make(rows)
        # TorchJD's thresholds are absolute; these methods' results scale with the rows (and
        # FairGrad's at alpha=1 do not depend on their scale).
        size = rows.norm()
        return make(rows / size) * (1 if name == "FairGrad" else size)

    return combine


def reference_of(name: str) -> Reference | None:
    """What computes a combiner that is not TorchJD's, or not as TorchJD has it."""
    case = gathered()[name]
    if case.reference is Reference or name in _AS_TORCHJD:
        return None
    defaults = inspect.signature(combiner_class(name)).parameters.values()
    options = {p.name: p.default for p in defaults if p.default is not p.empty}
    return case.reference(name, {**options, **case.training}, terms=len(PATTERNS), world=1)


def shard_of(model: Any, batch: dict[str, Any], cut: Any) -> Shard:
    """A rank's boundary tensors, real and detached, its terms' gradients, and their values."""
    cuts: list[tuple[Tensor, Tensor]] = []

    def detached(tensor: Tensor) -> Tensor:
        leaf = tensor.detach().requires_grad_()
        cuts.append((tensor, leaf))
        return leaf.clone()  # what follows may change it in place

    handles = []
    if cut == "features":
        extract = model.extract_feat
        model.extract_feat = lambda x: tuple(detached(f) for f in extract(x))
    elif cut != "parameters":
        named = dict(model.named_modules())
        handles = [named[n].register_forward_hook(lambda m, i, o: detached(o)) for n in cut]
    torch.manual_seed(7)
    losses = model(**model.data_preprocessor(batch, True), mode="loss")
    for handle in handles:
        handle.remove()
    if cut == "features":
        del model.extract_feat
    sums = {k: v.mean() if isinstance(v, Tensor) else sum(x.mean() for x in v)
            for k, v in losses.items() if "loss" in k}  # fmt: skip
    terms = [sum(v for k, v in sums.items() if any(p in k for p in patterns))
             for patterns in PATTERNS.values()]  # fmt: skip
    inputs = [*(leaf for _, leaf in cuts), *_trained(model)]
    grads = [
        list(torch.autograd.grad(term, inputs, retain_graph=True, allow_unused=True))
        for term in terms
    ]
    return cuts, grads, [term.item() for term in terms]


def combined(
    model: Any, shards: Sequence[Shard], name: str, seed: int = 0
) -> dict[str, Tensor]:
    """The combined gradient of every trained parameter, averaged over the shards."""
    parameters = _trained(model)
    world, count = len(shards), len(shards[0][0])
    terms = range(len(PATTERNS))
    shared = [
        p
        for p in range(len(parameters))
        if sum(any(g[k][count + p] is not None for _, g, _ in shards) for k in terms) > 1
    ]
    draws, rows = [], []
    for k in terms:
        parts = []
        for rank, (cuts, grads, _) in enumerate(shards):
            for i, (_, leaf) in enumerate(cuts):
                parts.append(_zero(grads[k][i], leaf).flatten() / world)
                if k == 0:
                    draws.append(_drawn(seed, 2 * (world * i + rank) + 1, leaf))
        for p in shared:
            like = parameters[p]
            parts.append(sum(_zero(g[k][count + p], like) for _, g, _ in shards).flatten() / world)
            if k == 0:
                draws.append(_drawn(seed, 2 * p, like))
        rows.append(torch.cat(parts).double() if parts else torch.zeros(0).double())
    matrix, columns = torch.stack(rows), torch.cat(draws).double()
    private, reference = [1.0 for _ in terms], reference_of(name)
    if reference is None:
        row = aggregator_of(name)(matrix, columns).float()
    else:
        values = torch.tensor([of for _, _, of in shards], dtype=torch.float64)
        reference.values = values.mean(0)
        reference.beside = sum(leaf.numel() for cuts, _, _ in shards for _, leaf in cuts)
        exact = reference.combine(matrix, 0, columns, True)
        row = exact.float()
        if reference.weighted:
            private = reference.private_weights(matrix, exact).tolist()
    results = [torch.zeros_like(p) for p in parameters]
    start = 0
    for cuts, _, _ in shards:
        if not cuts:
            continue
        parts = []
        for _, leaf in cuts:
            parts.append(row[start : start + leaf.numel()].view_as(leaf))
            start += leaf.numel()
        below = torch.autograd.grad(
            [tensor for tensor, _ in cuts], parameters, parts, retain_graph=True,
            allow_unused=True,
        )  # fmt: skip
        for total, part in zip(results, below, strict=True):
            total += 0 if part is None else part
    for p, like in enumerate(parameters):
        if p in shared:
            results[p] += row[start : start + like.numel()].view_as(like)
            start += like.numel()
        else:
            for k in terms:
                own = sum(_zero(g[k][count + p], like) for _, g, _ in shards) / world
                results[p] += private[k] * own
    names = [n for n, p in model.named_parameters() if p.requires_grad]
    return dict(zip(names, results, strict=True))


def difference(model: Any, expected: dict[str, Tensor]) -> float:
    """The largest error, relative to a parameter's largest gradient or 5% of the largest."""
    largest = max(e.abs().max() for e in expected.values())
    worst = 0.0
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            e = expected[name]
            found = torch.zeros_like(e) if parameter.grad is None else parameter.grad
            scale = torch.maximum(e.abs().max(), 0.05 * largest)
            worst = max(worst, float((found - e).abs().max() / scale))
    return worst


def _trained(model: Any) -> list[Tensor]:
    return [p for p in model.parameters() if p.requires_grad]


def _zero(grad: Tensor | None, like: Tensor) -> Tensor:
    return torch.zeros_like(like) if grad is None else grad


def _drawn(seed: int, key: int, like: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(generator_for(seed, 0, key).initial_seed())
    return torch.rand(like.numel(), generator=generator)
