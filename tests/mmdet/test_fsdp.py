"""FSDP, MMEngine's wrapper and torch's fully_shard, on two gloo processes: the weights of DDP, or
one line that says why not."""

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.ranks import RANKS, spawn
from helpers.tiny_detector import tiny_batch, tiny_config
from mmengine.model import MMDistributedDataParallel
from mmengine.model.wrappers import MMFullyShardedDataParallel
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from lossweave.errors import LossweaveError
from lossweave.host.hook import HostHook
from lossweave.progress import Progress

FEATURES = {"type": "PCGrad", "boundary": "features"}
PARAMETERS = {"type": "PCGrad", "boundary": "parameters"}
#: Wrapper, heads with a layer in common, combiner, and what it ends in; '' where it trains as DDP.
CASES: list[tuple[str, bool, Any, str]] = [
    *[
        (wrapper, True, combiner, "")
        for wrapper in ("flat", "flat, by parts", "root", "parts")
        for combiner in ("Sum", "UncertaintyWeighting", "FAMO", "GeometricMean")
    ],
    ("flat", True, FEATURES, "boundary='features': FullyShardedDataParallel keeps"),
    ("flat, by parts", True, FEATURES, "boundary='features': FullyShardedDataParallel keeps"),
    ("flat", True, PARAMETERS, "boundary='parameters': FullyShardedDataParallel keeps"),
    ("root", False, FEATURES, ""),
    ("root", True, FEATURES, ""),
    ("parts", True, FEATURES, "boundary='features': 2 parameters .* reshard_after_forward=False"),
    ("parts, heads kept", True, FEATURES, ""),
    ("root", True, {"type": "MGDA", "boundary": "features"}, ""),
    ("parts", True, PARAMETERS, "boundary='parameters': .* as fully_shard leaves them"),
    ("root", True, PARAMETERS, ""),
    ("root", True, {"type": "Alternating"}, "Alternating: inactive='hold' .* FSDP shards"),
    ("flat", True, {"type": "AutoLoss"}, "AutoLoss: .* FSDP shards the parameters; use DDP"),
    ("parts", True, {"type": "Alternating", "inactive": "zero"}, ""),
]


def _wrapped(wrapper: str, model: Any) -> Any:
    if wrapper == "ddp":
        return MMDistributedDataParallel(model)
    if wrapper.startswith("flat"):
        policy = None
        if "parts" in wrapper:
            policy = lambda module, recurse, **_: recurse or module is model.backbone  # noqa: E731
        return MMFullyShardedDataParallel(
            model, device_id=torch.device("cpu"), auto_wrap_policy=policy
        )
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (RANKS,))
    if wrapper.startswith("parts"):
        fully_shard(model.backbone, mesh=mesh)
        fully_shard(model.tower, mesh=mesh, reshard_after_forward="kept" not in wrapper)
    return fully_shard(model, mesh=mesh)


def _whole(wrapper: str, wrapped: Any) -> dict[str, torch.Tensor]:
    if wrapper.startswith("flat"):
        with MMFullyShardedDataParallel.summon_full_params(wrapped):
            named = {n.replace("_fsdp_wrapped_module.", ""): p for n, p in
                     wrapped.named_parameters()}  # fmt: skip
            return {name: p.detach().clone() for name, p in named.items()}
    named = {name.removeprefix("module."): p for name, p in wrapped.named_parameters()}
    return {
        name: (p.full_tensor() if hasattr(p, "full_tensor") else p).detach().clone()
        for name, p in named.items()
    }


def _trained(wrapper: str, shared: bool, combiner: Any, rank: int) -> dict[str, torch.Tensor]:
    """The weights after three updates."""
    model = MODELS.build(copy.deepcopy(tiny_config(combiner, shared)))
    inner: nn.Module = model
    wrapped = _wrapped(wrapper, model)
    optimizer = torch.optim.SGD(wrapped.parameters(), lr=0.05, momentum=0.9)
    hook = HostHook()
    hook.begin(inner, [optimizer])
    for iteration in range(3):
        hook.begin_iteration(Progress(iteration))
        losses = wrapped(**tiny_batch(iteration, rank), mode="loss")
        root, _ = model.parse_losses(losses)
        root.backward()
        optimizer.step()
        optimizer.zero_grad()
    hook.end()
    return _whole(wrapper, wrapped)


def _start(rank: int, root: str) -> None:
    init_default_scope("mmdet")
    found = {}
    for case in CASES:
        wrapper, shared, combiner, _ = case
        try:
            weights = _trained(wrapper, shared, combiner, rank)
            reference = _trained("ddp", shared, combiner, rank)
            apart = max(float((weights[n] - reference[n]).abs().max()) for n in reference)
            start = MODELS.build(tiny_config("Sum", shared)).state_dict()
            moved = min(float((reference[n] - start[n]).abs().max()) for n in reference)
            found[str(case)] = (apart, moved)
        except LossweaveError as error:
            found[str(case)] = str(error)
    torch.save(found, Path(root) / f"{rank}.pth")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    root = tmp_path_factory.mktemp("fsdp")
    spawn(_start, str(root))
    return [torch.load(root / f"{rank}.pth") for rank in range(RANKS)]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_it_trains_as_under_ddp_or_says_why_not(case: Any, found: list[dict[str, Any]]) -> None:
    for of_rank in found:
        result = of_rank[str(case)]
        if case[-1]:
            assert isinstance(result, str) and "\n" not in result
            assert re.search(case[-1], result), result
        else:
            assert not isinstance(result, str), result
            apart, moved = result
            assert apart < 1e-6 < 1e-4 < moved
