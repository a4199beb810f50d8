"""What combining gradients costs at each boundary, beside the stock step and the K-pass limit."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.registry import MODELS, init_default_scope
from tqdm import tqdm

from lossweave.combiners import GradientCombiner, combiner_class
from lossweave.errors import LossweaveError
from lossweave.mmdet.configuring import load_config, with_combiner
from lossweave.studies.benchmark import (
    CONTROL,
    DETECTORS,
    Step,
    build_detector,
    fixed_batch,
    optimizer_of,
    sharing,
)
from lossweave.studies.machine import machine, machine_line, versions
from lossweave.studies.tables import markdown_table, text_table
from lossweave.studies.timing import PairedTimes, interleaved, seconds_of

__all__ = ["BoundaryCosts", "k_pass_limit", "measure_boundaries", "run_boundaries"]

BOUNDARIES = ("representation", "features", "parameters")


@dataclass(frozen=True)
class BoundaryCosts:
    """The measurements on one detector.

    Args:
        detector: its name.
        method: the combiner.
        forward: median seconds of the stock forward and parse_losses.
        backward: median seconds of the stock backward.
        terms: number of terms K.
        steps: per boundary, and :data:`CONTROL`, steps paired with stock ones.
    """

    detector: str
    method: str
    forward: float
    backward: float
    terms: int
    steps: dict[str, PairedTimes]

    @property
    def limit(self) -> float:
        """The K-pass limit of this run."""
        return k_pass_limit(self.forward, self.backward, self.terms)


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
        detectors: keys of :data:`~lossweave.studies.benchmark.DETECTORS`.
        rounds: paired rounds of A B B A whole steps.
        batch_size: pictures a step.
        device: 'cpu' or 'cuda'; None means cuda if there is one.
        work_dir: where the result is written.
        command: the command that asked for it.

    Raises:
        LossweaveError: the method combines no gradients.
    """
    if not issubclass(combiner_class(method), GradientCombiner):
        raise LossweaveError(f"{method} combines no gradients, so it has no boundary")
    started = time.perf_counter()
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    results = []
    for detector in detectors:
        results.append(measure_boundaries(detector, method, rounds, batch_size, device))
        print(f"\n{text_table(*_rows(results[-1:]))}\n", flush=True)
    folder = Path(work_dir)
    folder.mkdir(parents=True, exist_ok=True)
    minutes = round((time.perf_counter() - started) / 60, 1)
    facts = dict(
        command=command, date=date.today().isoformat(), minutes=minutes, rounds=rounds,
        batch_size=batch_size, machine=machine(), versions=versions(),
    )  # fmt: skip
    content = {**facts, "results": [{**asdict(r), "limit": r.limit} for r in results]}
    (folder / "boundaries.json").write_text(json.dumps(content, indent=1))
    text = f"""# What a boundary costs

Measured {facts["date"]} in {minutes} minutes by

```bash
{command}
```

on {machine_line()}. A step is forward, `parse_losses`, backward and optimizer on one batch of
{batch_size} pictures with the terms cls and loc. The stock detector and the combined one share
their weights and take turns in one process (A B B A, {rounds} rounds). *Step ratio* is the median
of the paired ratios; the control pairs the stock detector with itself. The *K-pass limit* is
(F + K B) / (F + B) with the forward F and backward B of this run's stock step.

{markdown_table(*_rows(results))}
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

    steps: dict[str, Callable[[], float]] = {
        name: Step(model, optimizer, batch, wait) for name, model in twins.items()
    }
    reference = Step(stock, optimizer, batch, wait)
    first: list[Callable[[], float]] = [reference, reference, *steps.values()]
    for step in first:  # fills caches, and passes the checks of the first step
        step()
    with tqdm(total=len(steps) * rounds, desc=detector, leave=False) as bar:
        paired = interleaved(reference, steps, rounds, tick=bar.update)
    forward, backward = _passes(stock, batch, rounds, wait)
    terms = len(twins[BOUNDARIES[0]].loss_combination.names)
    return BoundaryCosts(detector, method, forward, backward, terms, dict(paired))


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


def _rows(results: Sequence[BoundaryCosts]) -> tuple[list[str], list[list[str]]]:
    header = ["detector", "boundary", "step ratio", "quartiles", "min .. max", "K-pass limit"]
    rows = []
    for result in results:
        for name, step in result.steps.items():
            least, first, third, most = step.quantiles(0, 0.25, 0.75, 1)
            label = name if name == CONTROL else f"{result.method}, {name}"
            rows.append(
                [
                    result.detector,
                    label,
                    f"{step.ratio:.3f}",
                    f"{first:.3f} to {third:.3f}",
                    f"{least:.3f} .. {most:.3f}",
                    f"{result.limit:.3f}",
                ]
            )
    return header, rows
