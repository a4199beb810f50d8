"""What a step costs over the number of terms, at each boundary; and over several processes.

The clock is the process's CPU time: what counts is work, and other jobs on the machine do not.
"""

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from mmengine.registry import init_default_scope
from torch import Tensor
from torch.multiprocessing import spawn
from tqdm import tqdm

from lossweave.combiners import GradientCombiner, combiner_class
from lossweave.errors import LossweaveError
from lossweave.mmdet.configs import load_config
from lossweave.studies.benchmark.boundary_findings import BOUNDARIES
from lossweave.studies.benchmark.detectors import CONTROL, advance, sharing
from lossweave.studies.benchmark.many_heads import ManyHeads, combined_heads
from lossweave.studies.benchmark.many_terms_findings import BATCHED, ManyTerms, TermCosts
from lossweave.studies.benchmark.many_terms_report import cost_text, write_many_terms
from lossweave.studies.benchmark.timing import interleaved, keep_freed_memory
from lossweave.utils.provenance import provenance

__all__ = ["CONFIG", "batched_rows", "measure_terms", "run_many_terms"]

#: Whose backbone and neck are below the heads.
CONFIG = "lossweave::mmdet/demo/retinanet_demo.py"


def batched_rows(
    losses: Tensor, inputs: Sequence[Tensor], retain: bool
) -> tuple[Tensor | None, ...]:
    """The gradients of all losses by one backward that is vectorised over them.

    Args:
        losses: K attached ones, shape ``(K,)``.
        inputs: with respect to what.
        retain: keep the graph.

    Returns:
        By input, the K gradients; None where no loss reaches it.
    """
    eye = torch.eye(len(losses))
    return torch.autograd.grad(
        losses, inputs, eye, retain_graph=retain, is_grads_batched=True, allow_unused=True
    )


class _Step:
    """One training step, and its seconds of CPU time."""

    def __init__(self, model: Any, optimizer: OptimWrapper, inputs: Tensor) -> None:
        self.model, self.optimizer, self.inputs = model, optimizer, inputs
        self.iteration = 0

    def __call__(self) -> float:
        advance(getattr(self.model, "module", self.model), self.iteration)
        self.iteration += 1
        begin = time.process_time()
        self.run()
        return time.process_time() - begin

    def run(self) -> None:
        self.model.train_step({"inputs": self.inputs}, self.optimizer)


class _BatchedStep(_Step):
    """The rows of all terms in one pass that is vectorised over them, and their plain sum."""

    def __init__(self, *args: Any, features: bool) -> None:
        super().__init__(*args)
        self.features = features

    def run(self) -> None:
        model = self.model
        caught: list[Tensor] = []
        extract = model.extract_feat

        def catching(inputs: Tensor) -> tuple[Tensor, ...]:
            caught[:] = extract(inputs)
            return tuple(caught)

        if self.features:
            model.extract_feat = catching
        try:
            losses = torch.stack(list(model(self.inputs).values()))
        finally:
            if self.features:
                del model.extract_feat
        trained = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
        inputs = caught if self.features else [p for _, p in trained]
        found = batched_rows(losses, inputs, retain=self.features)
        flat = [rows.flatten(1) for rows in found if rows is not None]
        weights = torch.stack([rows @ rows.T for rows in flat]).sum(0).diagonal().ge(0).float()
        sums = [None if rows is None else torch.tensordot(weights, rows, 1) for rows in found]
        if self.features:
            own = [p for n, p in trained if n.startswith(("shared", "heads"))]
            private = torch.autograd.grad(losses.sum(), own, retain_graph=True)
            torch.autograd.backward(caught, sums)
            inputs, sums = own, list(private)
        for tensor, grad in zip(inputs, sums, strict=True):
            tensor.grad = grad
        self.optimizer.step()
        self.optimizer.zero_grad()


def run_many_terms(asked: ManyTerms) -> list[TermCosts]:
    """Measure, print tables, write ``many_terms.md``, ``.json`` and ``.png``.

    Raises:
        LossweaveError: the method combines no gradients.
    """
    if not issubclass(combiner_class(asked.method), GradientCombiner):
        raise LossweaveError(f"{asked.method} combines no gradients, so it has no boundary")
    started = time.perf_counter()
    keep_freed_memory()
    torch.set_num_threads(1)
    results = []
    for count in asked.counts:
        results.append(measure_terms(asked, count))
        print(f"\n{cost_text(results[-1])}\n", flush=True)
    for processes in asked.processes:
        results.append(_across_processes(asked, processes))
        print(f"\n{cost_text(results[-1])}\n", flush=True)
    minutes = (time.perf_counter() - started) / 60
    facts = provenance(asked.command, minutes=round(minutes, 1))
    print(f"written: {write_many_terms(asked, results, facts)}")
    return results


def measure_terms(asked: ManyTerms, count: int, processes: int = 0) -> TermCosts:
    """Measure one number of terms.

    Args:
        asked: what is to be measured.
        count: number of terms K.
        processes: how many train together, of which this is one; 0 is without DDP.
    """
    init_default_scope("mmdet")
    cfg = load_config(CONFIG)
    generator = torch.Generator().manual_seed(dist.get_rank() if processes else 0)
    inputs = torch.rand(asked.batch_size, 3, asked.size, asked.size, generator=generator)
    stock = ManyHeads(cfg, count).train()
    steps: dict[str, _Step] = {}

    def step(model: Any, kind: Callable[..., _Step] = _Step, **more: Any) -> _Step:
        if processes:  # hooks of DDP are put on parameters, so each row has its own
            model = MMDistributedDataParallel(model.train())
        elif model is not stock:
            sharing(model, stock)
        sgd = torch.optim.SGD(model.parameters(), lr=1e-9)
        return kind(model, OptimWrapper(sgd), inputs, **more)

    reference = step(stock)
    steps[CONTROL] = step(ManyHeads(cfg, count) if processes else stock)
    for boundary in BOUNDARIES:
        combiner = dict(type=asked.method, boundary=boundary)
        steps[boundary] = step(combined_heads(cfg, count, combiner))
    if not processes:
        steps[BATCHED["features"]] = step(stock, _BatchedStep, features=True)
        steps[BATCHED["parameters"]] = step(stock, _BatchedStep, features=False)
    for one in (reference, reference, *steps.values()):  # caches, and what a first step finds
        one()
    quiet = processes > 0 and dist.get_rank() > 0
    rounds = asked.rounds_of(count)
    label = f"K={count}" + (f", {processes} processes" if processes else "")
    with tqdm(total=len(steps) * rounds, desc=label, leave=False, disable=quiet) as bar:
        paired = interleaved(reference, dict(steps), rounds, tick=bar.update)
    forward, backward = _parts(reference, rounds)
    return TermCosts(count, processes, paired, forward, backward)


def _parts(step: _Step, rounds: int) -> tuple[float, float]:
    """Median seconds of forward and backward of the stock step."""
    module = getattr(step.model, "module", step.model)
    times = []
    for _ in range(rounds):
        module.zero_grad()
        marks = [time.process_time()]
        total = module.parse_losses(module(step.inputs))[0]
        marks.append(time.process_time())
        total.backward()
        marks.append(time.process_time())
        times.append((marks[1] - marks[0], marks[2] - marks[1]))
    forward, backward = torch.tensor(times).median(dim=0).values.tolist()
    return forward, backward


def _across_processes(asked: ManyTerms, processes: int) -> TermCosts:
    """The same of the first of some processes that train together."""
    with tempfile.TemporaryDirectory() as folder:
        spawn(_work, args=(asked, processes, folder), nprocs=processes, join=True)
        found: TermCosts = torch.load(Path(folder) / "costs.pt", weights_only=False)
    return found


def _work(rank: int, asked: ManyTerms, processes: int, folder: str) -> None:
    torch.set_num_threads(1)
    keep_freed_memory()
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=processes
    )
    costs = measure_terms(asked, asked.across, processes)
    if rank == 0:
        torch.save(costs, Path(folder) / "costs.pt")
    dist.barrier()
    dist.destroy_process_group()
