"""What each value-based combiner adds to a training step of a detector.

The combined detectors are built as a config builds them, and then given the STOCK detector's
own modules: both run the same weights at the same addresses, so what differs is the combiner.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.optim import OptimWrapper
from mmengine.registry import init_default_scope
from torch import Tensor
from tqdm import tqdm

from lossweave.combiners import GradientCombiner, combiner_class, combiner_names
from lossweave.errors import LossweaveError
from lossweave.mmdet.configs import load_config
from lossweave.mmdet.draws import SeededBatchSampler
from lossweave.mmdet.hook import CombinerHook
from lossweave.studies.benchmark.detectors import (
    CONTROL,
    DETECTORS,
    Step,
    advance,
    build_detector,
    fixed_batch,
    optimizer_of,
    sharing,
)
from lossweave.studies.benchmark.findings import Benchmark, Cost, DetectorResult
from lossweave.studies.benchmark.report import result_text, write_benchmark
from lossweave.studies.benchmark.syncs import count_syncs
from lossweave.studies.benchmark.timing import PairedTimes, interleaved, quiet, seconds_of
from lossweave.utils.provenance import provenance

__all__ = ["measure_detector", "run_benchmark", "value_combiners"]


def value_combiners() -> list[str]:
    """The registered combiners that need the losses' values only, no gradient per term."""
    return [n for n in combiner_names() if not issubclass(combiner_class(n), GradientCombiner)]


def run_benchmark(benchmark: Benchmark) -> list[DetectorResult]:
    """Measure, print a table per detector, write ``benchmark.md`` and ``benchmark.json``.

    Raises:
        LossweaveError: an unknown detector or combiner.

    Example:
        >>> run_benchmark(Benchmark(("ssd",), ("DWA",), rounds=3))  # doctest: +SKIP
    """
    started = time.perf_counter()
    unknown = [name for name in benchmark.detectors if name not in DETECTORS]
    if unknown:
        raise LossweaveError(f"detector {unknown[0]!r} should be one of {', '.join(DETECTORS)}")
    combiners = list(benchmark.combiners or value_combiners())
    for name in combiners:
        combiner_class(name)
    if len(set(combiners)) < len(combiners):
        raise LossweaveError("--combiners should name each once")
    if benchmark.threads:
        torch.set_num_threads(benchmark.threads)
    device = benchmark.device or ("cuda" if torch.cuda.is_available() else "cpu")
    results = []
    for detector in benchmark.detectors:
        setting = DETECTORS[detector][device.split(":")[0]]
        cfg = load_config(setting.config)
        batch = fixed_batch(cfg, setting.size, benchmark.batch_size)
        result = measure_detector(
            detector,
            setting.config,
            cfg,
            batch,
            combiners,
            benchmark.rounds,
            benchmark.repeats,
            device,
        )
        results.append(result)
        print(f"\n{result_text(result)}\n", flush=True)
    minutes = (time.perf_counter() - started) / 60
    facts = provenance(benchmark.command, minutes=round(minutes, 1), settings=asdict(benchmark))
    write_benchmark(benchmark, results, facts, device)
    written = ", ".join(f"{benchmark.work_dir}/benchmark.{kind}" for kind in ("md", "json"))
    print(f"written: {written}; {minutes:.1f} min")
    return results


def measure_detector(
    detector: str,
    config: str,
    cfg: Config,
    batch: dict[str, Any],
    combiners: list[str],
    rounds: int,
    repeats: int,
    device: str = "cpu",
) -> DetectorResult:
    """Measure combiners on one detector.

    Args:
        detector: its name, for the result.
        config: its config's name, for the result.
        cfg: a config with ``model`` and ``optim_wrapper``, combined or stock.
        batch: what a data loader would give.
        combiners: names.
        rounds: paired rounds of whole steps.
        repeats: repetitions of the cost alone.
        device: 'cpu' or 'cuda'.
    """
    init_default_scope("mmdet")
    stock = build_detector(cfg, None).to(device).train()
    twins = {CONTROL: sharing(build_detector(cfg, None), stock)}
    for name in combiners:
        twins[name] = sharing(build_detector(cfg, name), stock).to(device)
    optimizer = optimizer_of(stock, cfg)

    def wait() -> None:
        if device.startswith("cuda"):
            torch.cuda.synchronize()

    steps = {name: Step(model, optimizer, batch, wait) for name, model in twins.items()}
    reference = Step(stock, optimizer, batch, wait)
    for step in (reference, reference, *steps.values()):  # caches, and checks of the first step
        step()
    stock_syncs = count_syncs(reference.run, device)
    syncs = {name: count_syncs(step.run, device) - stock_syncs for name, step in steps.items()}

    losses = _losses(stock, batch)
    with tqdm(total=len(steps) * rounds, desc=f"{detector}, steps", leave=False) as bar:
        whole = interleaved(reference, dict(steps), rounds, tick=bar.update)
    with tqdm(twins.items(), desc=f"{detector}, cost alone", leave=False) as bar:
        alone = {name: _alone(stock, model, losses, repeats, wait) for name, model in bar}
    return DetectorResult(
        detector=detector,
        config=config,
        step_seconds=float(np.median([t for times in whole.values() for t in times.a])),
        stock_syncs=stock_syncs,
        hook_seconds=_hook_seconds(twins, optimizer, losses, repeats),
        costs={name: Cost(whole[name], *alone[name], syncs[name]) for name in twins},
    )


class _Own:
    """parse_losses, and the backward pass from its scalar down to the raw losses."""

    def __init__(self, model: Any, losses: Mapping[str, Any], wait: Callable[[], None]) -> None:
        self.model, self.losses, self.wait = model, losses, wait
        self.iteration = 0
        self.forwards: list[float] = []

    def __call__(self) -> float:
        self.forwards.append(seconds_of(self._forward, self.wait))
        return self.forwards[-1] + seconds_of(self._backward, self.wait)

    def _forward(self) -> None:
        advance(self.model, self.iteration)
        self.iteration += 1
        self.total, _ = self.model.parse_losses(self.losses)

    def _backward(self) -> None:
        self.total.backward()


def _alone(
    stock: Any,
    model: Any,
    losses: Mapping[str, Any],
    repeats: int,
    wait: Callable[[], None],
) -> tuple[PairedTimes, PairedTimes]:
    """The own cost, paired, and of it the part of parse_losses."""
    a, b = _Own(stock, losses, wait), _Own(model, losses, wait)
    for _ in range(5):
        a(), b()
    a.forwards.clear()
    b.forwards.clear()
    both = interleaved(a, {"b": b}, repeats)["b"]
    # a round calls each twice
    means = [np.reshape(own.forwards, (-1, 2)).mean(axis=1).tolist() for own in (a, b)]
    return both, PairedTimes(tuple(means[0]), tuple(means[1]))


def _hook_seconds(
    twins: Mapping[str, Any], optimizer: OptimWrapper, losses: Mapping[str, Any], repeats: int
) -> float:
    """Median seconds of the hook in an iteration that logs nothing."""
    model = next((m for name, m in twins.items() if name != CONTROL), None)
    if model is None:
        return float("nan")
    hub = MessageHub.get_instance("lossweave_benchmark")
    _, outputs = model.parse_losses(dict(losses))
    for name, value in outputs.items():
        hub.update_scalar(f"train/{name}", value)
    hook = CombinerHook(interval=10**9)
    loader = SimpleNamespace(batch_sampler=SeededBatchSampler(range(8), 2))  # type: ignore[arg-type]
    runner: Any = SimpleNamespace(
        model=model,
        train_dataloader=loader,
        hooks=[],
        cfg={},
        optim_wrapper=optimizer,
        iter=0,
        train_loop=SimpleNamespace(max_iters=10_000),
        message_hub=hub,
    )
    hook.before_train(runner)
    hook.before_train_iter(runner, 0)
    model.parse_losses(dict(losses))[0].backward()  # a first update, for the hook to see
    hook.after_train_iter(runner, 0, outputs=outputs)

    def run() -> None:
        hook.before_train_iter(runner, 0)
        hook.after_train_iter(runner, 0, outputs=outputs)

    with quiet():
        seconds = [seconds_of(run, lambda: None) for _ in range(repeats)]
    hook.after_train(runner)
    return float(np.median(seconds))


def _losses(model: Any, batch: dict[str, Any]) -> dict[str, Any]:
    """The raw losses of the batch, cut off from the detector."""
    torch.manual_seed(0)
    data = model.data_preprocessor(batch, True)
    found = model._run_forward(data, mode="loss")

    def cut(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.detach().requires_grad_(value.is_floating_point())
        return [cut(part) for part in value]

    return {name: cut(value) for name, value in found.items()}
