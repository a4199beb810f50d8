"""What combining gradients costs at each boundary: time and peak memory.

Beside it, in the same run, stand the stock step, the K-pass limit, the heads' limit, and the same
method by TorchJD's own functions and by one backward per loss with flattened gradients.
"""

import time
from collections.abc import Sequence
from datetime import date
from typing import Any

import numpy as np
import torch
from mmengine.registry import MODELS, init_default_scope
from tqdm import tqdm

from lossweave.combiners import GradientCombiner, combiner_class
from lossweave.errors import LossweaveError
from lossweave.mmdet.configs import load_config, with_combiner
from lossweave.studies.benchmark.boundary_findings import (
    BOUNDARIES,
    FLAT,
    TORCHJD,
    TORCHJD_MTL,
    BoundaryCosts,
)
from lossweave.studies.benchmark.boundary_report import result_text, write_boundaries
from lossweave.studies.benchmark.detectors import (
    CONTROL,
    DETECTORS,
    Step,
    build_detector,
    fixed_batch,
    optimizer_of,
    sharing,
)
from lossweave.studies.benchmark.memory import bytes_of, peak_bytes
from lossweave.studies.benchmark.other_steps import (
    FlatStep,
    OtherStep,
    TorchJDBackwardStep,
    TorchJDMtlStep,
    aggregator_for,
)
from lossweave.studies.benchmark.passes import reached, time_passes
from lossweave.studies.benchmark.timing import interleaved, keep_freed_memory
from lossweave.utils.provenance import machine, versions

__all__ = ["measure_boundaries", "run_boundaries"]


def run_boundaries(
    method: str = "PCGrad",
    detectors: Sequence[str] = tuple(DETECTORS),
    rounds: int = 12,
    batch_size: int = 4,
    device: str | None = None,
    work_dir: str = "work_dirs/boundaries",
    command: str = "python tools/benchmark.py --boundaries PCGrad",
) -> list[BoundaryCosts]:
    """Measure a method at every boundary; write ``boundaries.md`` and ``boundaries.json``.

    Args:
        method: a combiner of gradients; a cheap one, so that the passes are what is measured.
        detectors: keys of :data:`~lossweave.studies.benchmark.detectors.DETECTORS`.
        rounds: paired rounds of A B B A whole steps.
        batch_size: pictures a step.
        device: 'cpu' or 'cuda'; None means cuda if there is one.
        work_dir: where the result is written.
        command: the command that asked for it.

    Raises:
        LossweaveError: the method combines no gradients, or TorchJD has none of this name.
    """
    if not issubclass(combiner_class(method), GradientCombiner):
        raise LossweaveError(f"{method} combines no gradients, so it has no boundary")
    aggregator_for(method)
    keep_freed_memory()
    started = time.perf_counter()
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    results = []
    for detector in detectors:
        results.append(measure_boundaries(detector, method, rounds, batch_size, device))
        print(f"\n{result_text(results[-1])}\n", flush=True)
    facts = dict(
        command=command,
        date=date.today().isoformat(),
        minutes=round((time.perf_counter() - started) / 60, 1),
        rounds=rounds,
        batch_size=batch_size,
        machine=machine(),
        versions=versions(),
    )
    print(f"written: {write_boundaries(work_dir, results, facts)}")
    return results


def measure_boundaries(
    detector: str, method: str, rounds: int, batch_size: int, device: str = "cpu"
) -> BoundaryCosts:
    """Measure a method at every boundary on one detector; arguments as :func:`run_boundaries`."""
    init_default_scope("mmdet")
    setting = DETECTORS[detector][device.split(":")[0]]
    cfg = load_config(setting.config)
    batch = fixed_batch(cfg, setting.size, batch_size)
    stock = build_detector(cfg, None).to(device).train()
    twins = {CONTROL: sharing(build_detector(cfg, None), stock)}
    for boundary in BOUNDARIES:
        wrapped = with_combiner(cfg.copy(), method, dict(boundary=boundary))
        twins[boundary] = sharing(MODELS.build(wrapped.model), stock).to(device)
    optimizer = optimizer_of(stock, cfg)

    def wait() -> None:
        if device.startswith("cuda"):
            torch.cuda.synchronize()

    steps: dict[str, Step] = {
        name: Step(model, optimizer, batch, wait) for name, model in twins.items()
    }
    reference = Step(stock, optimizer, batch, wait)
    for step in (reference, reference, *steps.values()):  # caches, and checks of the first step
        step()
    exact = twins["parameters"].loss_combination
    notes = {}
    arguments = (stock, optimizer, batch, wait, exact.terms, method)
    for label, kind, calls in _OTHERS:
        steps[label], notes[label] = _that_works(kind, arguments, calls)
    shared = {name: _shared_bytes(twins[name], batch) for name in BOUNDARIES}
    shared.update(dict.fromkeys(notes, shared["parameters"]))
    with tqdm(total=len(steps) * rounds, desc=detector, leave=False) as bar:
        paired = interleaved(reference, dict(steps), rounds, tick=bar.update)
    seconds = time_passes(stock, twins["features"], batch, rounds, wait)
    stock.zero_grad()
    peaks = {}
    for name, step in steps.items():
        torch.manual_seed(0)
        np.random.seed(0)
        peaks[name] = peak_bytes(step.run, device)
    return BoundaryCosts(
        detector, method, seconds.forward, seconds.backward, len(exact.names), paired, notes, peaks,
        _resident(stock, optimizer), shared, seconds.heads, seconds.heads_by_term,
    )  # fmt: skip


#: How TorchJD can be called, of which the fastest that runs is measured: all terms at once by
#: vmap, which some operations do not bear, or one by one; the graph kept, where terms share some
#: of it above the features.
_OTHERS: tuple[tuple[str, type[OtherStep], list[dict[str, Any]]], ...] = (
    (FLAT, FlatStep, [{}]),
    (TORCHJD, TorchJDBackwardStep, [dict(chunk=None), dict(chunk=1)]),
    (
        TORCHJD_MTL,
        TorchJDMtlStep,
        [dict(chunk=c, retain=r) for r in (False, True) for c in (None, 1)],
    ),
)


def _that_works(
    kind: type[OtherStep], arguments: tuple[Any, ...], options: Sequence[dict[str, Any]]
) -> tuple[Step, str]:
    """The fastest way of calling that runs, and how it was called."""
    working: list[tuple[float, Step, str]] = []
    for option in options:
        step = kind(*arguments, **option)
        try:
            step()
        except RuntimeError:  # vmap on a compiled operation, or a graph that was released
            step.discard()
            continue
        said = ", ".join(f"{key}={value}" for key, value in option.items())
        working.append((min(step() for _ in range(3)), step, said))
    if not working:
        raise LossweaveError(f"{kind.__name__} does not run on this detector")
    _, fastest, said = min(working, key=lambda found: found[0])
    return fastest, said


def _shared_bytes(model: Any, batch: Any) -> int:
    """Bytes of one copy of what two or more terms' gradients are combined at."""
    found = reached(model, batch)
    ends = [i for some in found.ends for i in some]
    return bytes_of(t for i, t in enumerate(found.tensors) if ends.count(i) > 1)


def _resident(model: Any, optimizer: Any) -> int:
    states = optimizer.optimizer.state.values()
    kept = [v for state in states for v in state.values() if isinstance(v, torch.Tensor)]
    return bytes_of([*model.parameters(), *model.buffers(), *kept])
