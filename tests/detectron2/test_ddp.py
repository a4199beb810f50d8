"""Two gloo processes: the gradient of the one-process reference, and equal state on both."""

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from detectron2.data import DatasetCatalog
from detectron2.engine import SimpleTrainer
from detectron2.modeling import build_model
from detectron2.solver import build_optimizer
from helpers.detectron2_gradients import MODULES, shard_of, terms_of
from helpers.detectron2_toy import DATA, forward, image_batch, register_data, toy_cfg
from helpers.mmdet_support import VALUE_COMBINERS, combiner_config
from helpers.plain_gradients import combined, difference
from helpers.ranks import RANKS, spawn
from torch.nn.parallel import DistributedDataParallel

from lossweave.combiners import build_combiner
from lossweave.detectron2 import CombinerHook, build_numbered_train_loader
from lossweave.progress import Progress

#: With the empty rank a few are enough: what is averaged is the same for all.
FEW = ["Max", "GeometricMean", "UncertaintyWeighting", "FAMO", "Alternating"]
WITH_STATE = [*FEW, "DWA", "RandomWeighting", "GradNorm", "GradVac", "NashMTL", "PCGrad"]


def _spawn(root: str) -> None:
    """All checks in one start of two processes, which takes most of the time."""
    spawn(_start, root)


def _start(rank: int, root: str) -> None:
    if DATA not in DatasetCatalog:
        register_data(Path(root))
    with torch.jit.optimized_execution(False):
        for check in (_draws, _gradients, _train):
            check(rank, root)


def _built(cfg: Any, state: Any) -> Any:
    model = build_model(cfg).train()
    model.load_state_dict(state, strict=False)
    model.loss_combination.set_progress(Progress())
    return model


def _gradients(rank: int, root: str) -> None:
    for detector, empty in (("retinanet", -1), ("faster_rcnn", 1)):
        torch.manual_seed(0)
        plain = build_model(toy_cfg(detector, Path(root))).train()
        state = {k: v.clone() for k, v in plain.state_dict().items()}
        batches = [image_batch(r, r == empty) for r in range(RANKS)]

        def check(
            combiner: Any, expected: Any, bound: float,
            detector=detector, state=state, batches=batches,
        ) -> Any:  # fmt: skip
            model = _built(toy_cfg(detector, Path(root), combiner), state)
            ddp = DistributedDataParallel(model, broadcast_buffers=False)
            found = forward(model, batches[rank], ddp)
            (sum(found.values()) if isinstance(found, dict) else found).backward()
            error = difference(model, expected)
            assert error < bound, f"{detector} {combiner}: {error:.1e}"
            return model

        # Functions of the values: weights of the terms' averages over the ranks.
        parameters = [p for p in plain.parameters() if p.requires_grad]
        names = [n for n, p in plain.named_parameters() if p.requires_grad]
        values, rows = [], []
        for batch in batches:
            terms = terms_of(forward(plain, batch))
            values.append(torch.stack(terms).detach())
            rows.append([
                torch.autograd.grad(t, parameters, retain_graph=True, allow_unused=True)
                for t in terms
            ])  # fmt: skip
        mean = torch.stack(values).mean(0)
        for name in VALUE_COMBINERS if empty < 0 else FEW:
            combiner = build_combiner(combiner_config(name))
            combiner.bind(("cls", "loc"))
            combiner.begin(Progress())
            _, weights = combiner.combine(mean, torch.tensor([True, True]))
            expected = {}
            for i, key in enumerate(names):
                expected[key] = torch.zeros_like(parameters[i])
                for shard in rows:
                    for weight, row in zip(weights, shard, strict=True):
                        if row[i] is not None:
                            expected[key] += weight * row[i] / RANKS
            model = check(combiner_config(name), expected, 5e-5)
            both: list[Any] = [None] * RANKS
            mine = {k: v for k, v in model.state_dict().items() if "loss_combination" in k}
            dist.all_gather_object(both, mine)
            for key in mine:
                assert torch.equal(both[0][key].nan_to_num(), both[1][key].nan_to_num()), name

        # Gradients, per boundary.
        for boundary in ("parameters", "features", "representation"):
            cut = MODULES.get(detector, "features") if boundary[0] == "r" else boundary
            shards = [shard_of(plain, batch, cut) for batch in batches]
            for name in ("MGDA", "GradDrop", "UPGrad"):
                expected = combined(plain, shards, name)
                check(combiner_config(name, boundary=boundary), expected, 5e-5)


def _train(rank: int, root: str) -> None:
    for name in WITH_STATE:
        cfg = toy_cfg("retinanet", Path(root), combiner_config(name), SOLVER__IMS_PER_BATCH=4)
        torch.manual_seed(0)
        model = build_model(cfg)
        ddp = DistributedDataParallel(model, broadcast_buffers=False)
        trainer = SimpleTrainer(ddp, build_numbered_train_loader(cfg), build_optimizer(cfg, ddp))
        trainer.register_hooks([CombinerHook()])
        trainer.train(0, 4)
        # Statistics of normalization belong to a rank; weights and state are everybody's.
        state = {k: v.nan_to_num() for k, v in model.state_dict().items() if "running" not in k}
        both: list[Any] = [None] * RANKS
        dist.all_gather_object(both, state)
        assert all(torch.equal(both[0][k], both[1][k]) for k in state), name
        if rank == 0:
            assert "loss_cls" in trainer.storage.histories()


def _draws(rank: int, root: str) -> None:
    loader = build_numbered_train_loader(toy_cfg("retinanet", Path(root), SOLVER__IMS_PER_BATCH=4))
    batches = iter(loader)
    seen = [entry["image_id"] for _ in range(3) for entry in next(batches)]
    both: list[Any] = [None] * RANKS
    dist.all_gather_object(both, seen)
    # Six batches of two are nearly one pass over the eleven images with objects.
    assert len(set(both[0]) | set(both[1])) >= 10 and len(seen) == 6


def test_two_processes(data) -> None:
    _spawn(str(data))
