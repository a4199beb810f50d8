"""What combining gradients costs at each boundary: time and peak memory.

Beside it, in the same run, stand the stock step, the K-pass limit, and the same method by
TorchJD's own functions and by one backward per loss with flattened gradients.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.registry import MODELS, init_default_scope
from tqdm import tqdm

from lossweave.backward import reachability_of
from lossweave.combiners import GradientCombiner, combiner_class
from lossweave.errors import LossweaveError
from lossweave.mmdet.configs import load_config, with_combiner
from lossweave.studies.benchmark.memory import bytes_of, peak_bytes
from lossweave.studies.benchmark.other_steps import (
    FlatStep,
    OtherStep,
    TorchJDBackwardStep,
    TorchJDMtlStep,
    aggregator_for,
    summed_terms,
)
from lossweave.studies.benchmark.study import (
    CONTROL,
    DETECTORS,
    Step,
    build_detector,
    fixed_batch,
    optimizer_of,
    sharing,
)
from lossweave.studies.benchmark.timing import (
    PairedTimes,
    interleaved,
    keep_freed_memory,
    seconds_of,
)
from lossweave.studies.report.tables import markdown_table, text_table
from lossweave.utils.provenance import machine, machine_line, versions

__all__ = ["BoundaryCosts", "Check", "k_pass_limit", "measure_boundaries", "run_boundaries"]

BOUNDARIES = ("representation", "features", "parameters")
#: The same method without lossweave.
FLAT, TORCHJD, TORCHJD_MTL = "LibMTL's way", "TorchJD backward", "TorchJD mtl_backward"
#: The cheapest boundary for the terms cls and loc.
_CHEAP = {"retinanet": "features", "ssd": "features", "faster_rcnn": "representation"}


@dataclass(frozen=True)
class BoundaryCosts:
    """The measurements on one detector.

    Args:
        detector: its name.
        method: the combiner.
        forward: median seconds of the stock forward and parse_losses.
        backward: median seconds of the stock backward.
        terms: number of terms K.
        steps: per boundary, other way, and :data:`CONTROL`, steps paired with stock ones.
        notes: per row, how it had to be called.
        peaks: peak bytes of a step of each row, beyond what was live before it.
        resident: bytes of parameters, buffers and optimizer, which are live before it.
        shared: per row, bytes of one copy of the gradients that are combined.
    """

    detector: str
    method: str
    forward: float
    backward: float
    terms: int
    steps: dict[str, PairedTimes]
    notes: dict[str, str] = field(default_factory=dict)
    peaks: dict[str, int] = field(default_factory=dict)
    resident: int = 0
    shared: dict[str, int] = field(default_factory=dict)

    def memory(self, name: str) -> int:
        """Peak bytes of a row's step, with what is live all the time."""
        return self.resident + self.peaks[name]

    def memory_limit(self, name: str) -> float:
        """Stock + 5 % + K copies of the gradients that are combined."""
        return 1.05 * self.memory(CONTROL) + self.terms * self.shared.get(name, 0)

    def checks(self) -> "list[Check]":
        """What should hold of the rows that were measured."""
        found = []
        if (cheap := _CHEAP.get(self.detector, "")) in self.steps:
            found.append(Check(f"{cheap}: time to stock", self.steps[cheap].ratio, 1.06))
        if "parameters" in self.steps:
            exact = self.steps["parameters"].ratio
            found.append(Check("parameters: time to 1.05 K-pass", exact, 1.05 * self.limit))
            for name in (TORCHJD, TORCHJD_MTL, FLAT):
                if name in self.steps:
                    ratio = self.steps[name].ratio
                    found.append(Check(f"parameters: time to {name}", exact, ratio))
        for name in BOUNDARIES:
            if name in self.peaks:
                limit = self.memory_limit(name) / self.memory(CONTROL)
                ratio = self.memory(name) / self.memory(CONTROL)
                found.append(Check(f"{name}: memory to its limit", ratio, limit))
        return found

    @property
    def limit(self) -> float:
        """The K-pass limit of this run."""
        return k_pass_limit(self.forward, self.backward, self.terms)


@dataclass(frozen=True)
class Check:
    """A ratio to stock, and the most it should be.

    Example:
        >>> Check("parameters", 1.55, 1.6).held
        True
    """

    what: str
    ratio: float
    most: float

    @property
    def held(self) -> bool:
        """Whether it is."""
        return self.ratio <= self.most


def k_pass_limit(forward: float, backward: float, terms: int) -> float:
    """(F + K B) / (F + B): a step that runs the whole backward once per term.

    Example:
        >>> k_pass_limit(1.0, 2.0, 2)
        1.6666666666666667
    """
    return (forward + terms * backward) / (forward + backward)


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
        detectors: keys of :data:`~lossweave.studies.benchmark.study.DETECTORS`.
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
        for table in (_rows, _memory_rows, _check_rows):
            print(f"\n{text_table(*table(results[-1:]))}", flush=True)
        print(flush=True)
    folder = Path(work_dir)
    folder.mkdir(parents=True, exist_ok=True)
    minutes = round((time.perf_counter() - started) / 60, 1)
    facts = dict(
        command=command, date=date.today().isoformat(), minutes=minutes, rounds=rounds,
        batch_size=batch_size, machine=machine(), versions=versions(),
    )  # fmt: skip
    content = {**facts, "results": [_as_json(result) for result in results]}
    (folder / "boundaries.json").write_text(json.dumps(content, indent=1))
    text = f"""# What a boundary costs

Measured {facts["date"]} in {minutes} minutes by

```bash
{command}
```

on {machine_line()}. A step is forward, `parse_losses`, backward and optimizer on one batch of
{batch_size} pictures with the terms cls and loc. All rows share the stock detector's weights and
take turns with it in one process (A B B A, {rounds} rounds). *Step ratio* is the median of the
paired ratios; the control pairs the stock detector with itself. The *K-pass limit* is
(F + K B) / (F + B) with the forward F and backward B of this run's stock step. The C library keeps
freed memory throughout, so that no row pays for pages that another one gave back.

{markdown_table(*_rows(results))}

- *{TORCHJD}* is its `backward` and `jac_to_grad`, which combine all parameters, *{TORCHJD_MTL}*
  its `mtl_backward` and `jac_to_grad` with the neck's outputs as features. {_said(results)}
- *{FLAT}* is one `backward` per loss, the gradients of the shared parameters flattened into one
  matrix, combined there, and written back, with the buffers that LibMTL makes.

## Peak memory

The peak of live tensors during one step (on a CPU every allocation of the step in torch's
profiler, on CUDA `max_memory_allocated`), with parameters, buffers and the optimizer's state. The
*limit* is stock + 5 % + K copies of the gradients that are combined.

{markdown_table(*_memory_rows(results))}

## What should hold

{markdown_table(*_check_rows(results))}
"""
    (folder / "boundaries.md").write_text(text)
    print(f"written: {folder / 'boundaries.md'}")
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
    forward, backward = _passes(stock, batch, rounds, wait)
    stock.zero_grad()
    peaks = {}
    for name, step in steps.items():
        torch.manual_seed(0)
        np.random.seed(0)
        peaks[name] = peak_bytes(step.run, device)
    return BoundaryCosts(
        detector, method, forward, backward, len(exact.names), paired, notes, peaks,
        _resident(stock, optimizer), shared,
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
    combination = model.loss_combination
    losses = model._run_forward(model.data_preprocessor(batch, True), mode="loss")
    terms = summed_terms(losses, combination.terms)
    reachability = reachability_of(terms, combination.boundary.take(terms))
    tensors = [*(point.tensor for point in reachability.boundary), *reachability.leaves]
    reached = [i for found in reachability.terms for i in found]
    return bytes_of(t for i, t in enumerate(tensors) if reached.count(i) > 1)


def _resident(model: Any, optimizer: Any) -> int:
    states = optimizer.optimizer.state.values()
    kept = [v for state in states for v in state.values() if isinstance(v, torch.Tensor)]
    return bytes_of([*model.parameters(), *model.buffers(), *kept])


def _passes(model: Any, batch: Any, rounds: int, wait: Callable[[], None]) -> tuple[float, float]:
    """Median seconds of forward and of backward of a stock step."""
    total: list[torch.Tensor] = []

    def ahead() -> None:
        torch.manual_seed(0)
        data = model.data_preprocessor(batch, True)
        total[:] = [model.parse_losses(model._run_forward(data, mode="loss"))[0]]

    times = []
    for _ in range(rounds):
        model.zero_grad()
        times.append((seconds_of(ahead, wait), seconds_of(lambda: total[0].backward(), wait)))
    forward, backward = np.median(np.array(times), axis=0)
    return float(forward), float(backward)


def _as_json(result: BoundaryCosts) -> dict[str, Any]:
    names = list(result.steps)
    return {
        **asdict(result),
        "limit": result.limit,
        "memory": {name: result.memory(name) for name in names},
        "memory_limit": {name: result.memory_limit(name) for name in names},
        "checks": [{**asdict(check), "held": check.held} for check in result.checks()],
    }


def _label(result: BoundaryCosts, name: str) -> str:
    return name if name == CONTROL else f"{result.method}, {name}"


def _said(results: Sequence[BoundaryCosts]) -> str:
    calls = [
        f"{result.detector}: {name} with {result.notes[name]}"
        for result in results
        for name in (TORCHJD, TORCHJD_MTL)
        if name in result.notes
    ]
    return f"Of the ways to call them that run, the fastest ({'; '.join(calls)})."


def _rows(results: Sequence[BoundaryCosts]) -> tuple[list[str], list[list[str]]]:
    header = ["detector", "combined", "step ratio", "quartiles", "min .. max", "K-pass limit"]
    rows = []
    for result in results:
        for name, step in result.steps.items():
            least, first, third, most = step.quantiles(0, 0.25, 0.75, 1)
            rows.append(
                [
                    result.detector,
                    _label(result, name),
                    f"{step.ratio:.3f}",
                    f"{first:.3f} to {third:.3f}",
                    f"{least:.3f} .. {most:.3f}",
                    f"{result.limit:.3f}",
                ]
            )
    return header, rows


def _memory_rows(results: Sequence[BoundaryCosts]) -> tuple[list[str], list[list[str]]]:
    header = ["detector", "combined", "peak, MiB", "to stock", "limit to stock", "within"]
    rows = []
    for result in results:
        stock = result.memory(CONTROL)
        for name in result.peaks:
            peak, limit = result.memory(name), result.memory_limit(name)
            rows.append(
                [
                    result.detector,
                    _label(result, name),
                    f"{peak / 2**20:.1f}",
                    f"{peak / stock:.3f}",
                    "" if name == CONTROL else f"{limit / stock:.3f}",
                    "" if name == CONTROL else ("yes" if peak <= limit else "NO"),
                ]
            )
    return header, rows


def _check_rows(results: Sequence[BoundaryCosts]) -> tuple[list[str], list[list[str]]]:
    rows = [
        [result.detector, check.what, f"{check.ratio:.3f}", f"{check.most:.3f}",
         "yes" if check.held else "NO"]
        for result in results
        for check in result.checks()
    ]  # fmt: skip
    return ["detector", "what", "measured", "at most", "holds"], rows
