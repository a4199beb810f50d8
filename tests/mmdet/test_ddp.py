"""Two gloo processes: the gradient of the one-process reference, and equal state on both.

The reference computes each term on each rank's shard, averages the terms over the shards and
combines once. All combiners share one spawn, since starting processes takes most of the time.
"""

import copy
import unittest.mock
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from helpers.mmdet_support import ALL_COMBINERS, VALUE_COMBINERS, combiner_config, image_batch
from helpers.mmdet_toy import toy_config
from helpers.plain_gradients import MODULES, combined, difference, shard_of
from helpers.ranks import RANKS, spawn
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner

from lossweave.combination import build_combination
from lossweave.combiners import build_combiner
from lossweave.progress import Progress


def _term_gradients(model, batch: dict) -> tuple[torch.Tensor, list[list[torch.Tensor | None]]]:
    """A rank's terms and their gradients, without lossweave."""
    torch.manual_seed(7)
    data = model.data_preprocessor(batch, True)
    losses = model(**data, mode="loss")
    sums = {
        k: v.mean() if isinstance(v, torch.Tensor) else sum(x.mean() for x in v)
        for k, v in losses.items()
    }
    cls = sum(v for k, v in sums.items() if "loss" in k and "cls" in k)
    loc = sum(v for k, v in sums.items() if "loss" in k and "bbox" in k)
    parameters = [p for p in model.parameters() if p.requires_grad]
    grads = [
        list(torch.autograd.grad(t, parameters, retain_graph=True, allow_unused=True))
        for t in (cls, loc)
    ]
    return torch.stack([cls.detach(), loc.detach()]), grads


def _combined(shards, weights: torch.Tensor, index: int, like: torch.Tensor) -> torch.Tensor:
    """The combined gradient of one parameter: weighted over terms, averaged over shards."""
    total = torch.zeros_like(like)
    for _, grads in shards:
        for weight, grad in zip(weights, grads, strict=True):
            if grad[index] is not None:
                total += weight * grad[index] / RANKS
    return total


def _gradients(rank: int, root: str, detector: str, find_unused: bool, empty_rank: int) -> None:
    from mmengine.model import MMDistributedDataParallel

    init_default_scope("mmdet")
    cfg = toy_config(detector, Path(root), Path(root) / f"cfg{rank}", "Sum")
    torch.manual_seed(0)
    plain = MODELS.build(cfg.model)
    state = plain.state_dict()
    batches = [image_batch(r, r == empty_rank) for r in range(RANKS)]
    shards = [_term_gradients(plain, batch) for batch in batches]
    mean = torch.stack([values for values, _ in shards]).mean(0)
    for name in VALUE_COMBINERS:
        cfg.model.combiner = combiner_config(name)
        model = MODELS.build(cfg.model)
        model.load_state_dict(state, strict=False)
        model.loss_combination.set_progress(Progress())
        ddp = MMDistributedDataParallel(model, find_unused_parameters=find_unused)
        torch.manual_seed(7)
        data = ddp.module.data_preprocessor(batches[rank], True)
        root_scalar, _ = model.parse_losses(ddp(**data, mode="loss"))
        root_scalar.backward()

        combiner = build_combiner(combiner_config(name))
        combiner.bind(("cls", "loc"))
        combiner.begin(Progress())
        _, weights = combiner.combine(mean, torch.tensor([True, True]))
        parameters = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
        expected = [_combined(shards, weights, i, p) for i, (_, p) in enumerate(parameters)]
        largest = max(e.abs().max() for e in expected)
        for (key, p), e in zip(parameters, expected, strict=True):
            found = torch.zeros_like(p) if p.grad is None else p.grad
            # Sums in another order: what cancels to nearly nothing is judged by the whole.
            error = (found - e).abs().max() / torch.maximum(e.abs().max(), 0.05 * largest)
            assert error < 5e-5, f"{name}: {key} differs by {error:.1e}"
        # The same state on both ranks.
        both = [None] * RANKS
        mine = {k: v for k, v in model.state_dict().items() if "loss_combination" in k}
        dist.all_gather_object(both, mine)
        for key in mine:
            assert torch.equal(both[0][key].nan_to_num(), both[1][key].nan_to_num()), (name, key)


@pytest.mark.parametrize(
    ("detector", "find_unused", "empty_rank"),
    [("retinanet", False, -1), ("faster_rcnn", True, 1), ("ssd", False, 1)],
    ids=["retinanet", "faster_rcnn, unused found, one rank empty", "ssd, one rank empty"],
)
def test_gradients_of_every_combiner(detector, find_unused, empty_rank, data) -> None:
    spawn(_gradients, str(data), detector, find_unused, empty_rank)


def _gradient_methods(rank: int, root: str) -> None:
    """Per detector, boundary and method; one rank has no object, and finds unused parameters."""
    from mmengine.model import MMDistributedDataParallel

    init_default_scope("mmdet")
    for detector in ("retinanet", "faster_rcnn"):
        cfg = toy_config(detector, Path(root), Path(root) / f"gradients{rank}", "Sum")
        torch.manual_seed(0)
        plain = MODELS.build(cfg.model).train()
        state = {k: v.clone() for k, v in plain.state_dict().items()}
        for boundary in ("parameters", "features", "representation"):
            cut = MODULES.get(detector, "features") if boundary[0] == "r" else boundary
            batches = [image_batch(r, empty=r == 1) for r in range(RANKS)]
            shards = [shard_of(plain, batch, cut) for batch in batches]
            for number, name in enumerate(("MGDA", "GradDrop", "UPGrad")):
                cfg.model.combiner = combiner_config(name, boundary=boundary)
                model = MODELS.build(cfg.model).train()
                model.load_state_dict(state, strict=False)
                model.loss_combination.set_progress(Progress())
                ddp = MMDistributedDataParallel(model, find_unused_parameters=number == 0)
                torch.manual_seed(7)
                data = model.data_preprocessor(batches[rank], True)
                total, _ = model.parse_losses(ddp(**data, mode="loss"))
                total.backward()
                error = difference(model, combined(plain, shards, name))
                assert error < 5e-5, f"{detector} {boundary} {name}: {error:.1e}"


def test_gradients_combined_over_two_ranks(data) -> None:
    spawn(_gradient_methods, str(data))


def _train(rank: int, root: str, find_unused: bool, accumulate: int) -> None:
    # Of the combiners of gradients those with state, and one with draws; all of them run on two
    # ranks in tests/properties.
    for name in (*VALUE_COMBINERS, "GradNorm", "GradVac", "NashMTL", "PCGrad"):
        work_dir = Path(root) / f"ddp_{find_unused}_{accumulate}_{name}"
        cfg = toy_config(
            "retinanet", Path(root), work_dir, combiner_config(name), iterations=4,
            optim_wrapper__accumulative_counts=accumulate,
            default_hooks__checkpoint__interval=100,
        )  # fmt: skip
        cfg.launcher = "pytorch"
        cfg.experiment_name = f"{name}_{rank}"
        cfg.model_wrapper_cfg = dict(
            type="MMDistributedDataParallel",
            device_ids=None,
            find_unused_parameters=find_unused,
        )
        runner = Runner.from_cfg(cfg)
        held: list[int] = []
        if name == "Alternating":
            head = dict(runner.model.module.bbox_head.named_parameters())

            def note(optimizer, *_, head=head, held=held) -> None:
                held.append(sum(p.grad is None for p in head.values()))

            _late_pre_hook(runner, note)
        runner.train()
        if name == "Alternating":
            # Each branch has its own tower and output: the idle one has no gradient at all.
            assert held and all(count == len(head) // 2 for count in held), held
        mine = {k: v.nan_to_num() for k, v in runner.model.state_dict().items()}
        momentum = [s["momentum_buffer"] for s in runner.optim_wrapper.optimizer.state.values()]
        both = [None] * RANKS
        dist.all_gather_object(both, (mine, momentum))
        assert all(torch.equal(both[0][0][k], both[1][0][k]) for k in mine), name
        assert all(torch.equal(a, b) for a, b in zip(both[0][1], both[1][1], strict=True)), name


def _late_pre_hook(runner: Runner, function) -> None:
    """Call a function before the optimizer steps, after lossweave's own hook has."""
    from mmengine.hooks import Hook

    class Late(Hook):
        priority = "LOWEST"

        def before_train(self, runner) -> None:
            runner.optim_wrapper.optimizer.register_step_pre_hook(function)

    runner.register_hook(Late())


@pytest.mark.parametrize(
    ("find_unused", "accumulate"), [(False, 1), (True, 2)], ids=["plain", "unused, accumulated"]
)
def test_training_leaves_equal_state(find_unused, accumulate, data, tmp_path) -> None:
    spawn(_train, str(data), find_unused, accumulate)


def _resume(rank: int, root: str, work: str) -> None:
    def run(name: str, iterations: int, resume: bool = False) -> Runner:
        cfg = toy_config(
            "faster_rcnn", Path(root), Path(work) / name, combiner_config("DWA"),
            iterations=iterations, param_scheduler=[], workers=1,
        )  # fmt: skip
        cfg.launcher, cfg.resume = "pytorch", resume
        cfg.experiment_name = f"{name}_{iterations}_{rank}"
        cfg.model_wrapper_cfg = dict(
            type="MMDistributedDataParallel", device_ids=None, find_unused_parameters=True
        )
        runner = Runner.from_cfg(cfg)
        runner.train()
        return runner

    whole = run("whole", 5).model.state_dict()
    run("parts", 3)
    resumed = run("parts", 5, resume=True).model.state_dict()
    # Running statistics are each rank's own; a checkpoint has those of rank 0.
    keys = [k for k in whole if rank == 0 or "running" not in k]
    assert all(torch.equal(whole[k].nan_to_num(), resumed[k].nan_to_num()) for k in keys)


def test_resume_on_two_ranks(data, tmp_path) -> None:
    spawn(_resume, str(data), str(tmp_path))


class _BatchMeans(torch.nn.Module):
    """Two losses that are means over the batch, so that shards average to the whole."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = torch.nn.Linear(4, 8)
        self.heads = torch.nn.ModuleList([torch.nn.Linear(8, 2), torch.nn.Linear(8, 2)])

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        h = self.shared(x).tanh()
        cls, loc = (head(h).square().mean() for head in self.heads)
        return {"loss_cls": cls, "loss_bbox": 3 * loc}


def _whole_batch(rank: int, root: str) -> None:
    batch = torch.randn(8, 4, generator=torch.Generator().manual_seed(1))
    for name in ALL_COMBINERS:
        torch.manual_seed(0)
        model = _BatchMeans()
        alone = copy.deepcopy(model)
        terms = {"cls": "loss_cls", "loc": "loss_bbox"}
        combinations = [build_combination(combiner_config(name), terms) for _ in range(2)]
        for combination in combinations:
            combination.set_progress(Progress())
        ddp = torch.nn.parallel.DistributedDataParallel(model)
        combinations[0](ddp(batch.chunk(RANKS)[rank]), model=model).backward()
        # The reference sees the whole batch, and no other rank.
        with unittest.mock.patch("lossweave.utils.distributed.world_size", return_value=1):
            combinations[1](alone(batch), model=alone).backward()
        for p, q in zip(model.parameters(), alone.parameters(), strict=True):
            expected = torch.zeros_like(q) if q.grad is None else q.grad
            assert torch.allclose(p.grad, expected, rtol=1e-5, atol=1e-7), name


def test_shards_of_batch_means_give_the_whole_batches_gradient(tmp_path) -> None:
    spawn(_whole_batch, str(tmp_path))
