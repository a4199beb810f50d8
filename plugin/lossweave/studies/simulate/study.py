"""Run the simulations of every combiner, keep each, and write what is found."""

import hashlib
import inspect
import json
import math
import warnings
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path as File
from typing import Any

import torch

from lossweave.combiners import combiner_class, combiner_names
from lossweave.errors import LossweaveError
from lossweave.studies.simulate.fields import field as field_of
from lossweave.studies.simulate.findings import THRESHOLDS, Outcome, answer, outcome, words_of
from lossweave.studies.simulate.page import write_page
from lossweave.studies.simulate.paths import OPTIMIZERS, Path, path
from lossweave.studies.simulate.pictures import write_pictures
from lossweave.studies.simulate.problems import PROBLEMS, problem
from lossweave.studies.simulate.report import write_report
from lossweave.utils.files import write_atomically
from lossweave.utils.provenance import machine, provenance

__all__ = ["SCALES", "Simulation", "run_simulation", "simulate_combiner"]

SCALES = (0.001, 1.0, 1000.0)
_LIMITS = (1e-6, 1e6)  # of the scales
#: What a combiner warns of whose solver found nothing.
_FAILED = "equal weights were used"
#: The packages of which a change makes what was kept stale, the modules of this one, and what
#: combiners share, beside each combiner's own.
_CODE = ("backward", "combination")
_SHARED = ("base", "registry")
_OWN = ("fields", "findings", "losses", "paths", "problems")


@dataclass(frozen=True)
class Simulation:
    """What to simulate.

    Args:
        combiners: names, or None for every registered one.
        scales: how much larger the second loss is made than the first.
        seed: of the least-squares pair.
        steps: updates of a training.
        settle: updates of standing losses before the weights are read that move.
        jobs: processes.
        out: folder of the results.
        command: what was typed.

    Raises:
        LossweaveError: a name, scale or count that cannot be, in one line.
    """

    combiners: tuple[str, ...] | None = None
    scales: tuple[float, ...] = SCALES
    seed: int = 0
    steps: int = 120
    settle: int = 100
    jobs: int = field(default_factory=lambda: machine()["cores"])
    out: str = "work_dirs/simulate"
    command: str = "python tools/simulate.py"

    def __post_init__(self) -> None:
        for name in self.names:
            combiner_class(name)
        for what, many in (("combiners", self.names), ("scales", self.scales)):
            if len(set(many)) < len(many) or not many:
                raise LossweaveError(f"--{what} should name each once, and at least one")
        for scale in self.scales:
            if not (math.isfinite(scale) and _LIMITS[0] <= scale <= _LIMITS[1]):
                raise LossweaveError(
                    f"--scales: {scale:g} should be a number from {_LIMITS[0]:g} to {_LIMITS[1]:g}"
                )
        for what, count in (("steps", self.steps), ("settle", self.settle), ("jobs", self.jobs)):
            if count < 1:
                raise LossweaveError(f"--{what}={count} should be at least 1")
        if not 0 <= self.seed < 2**63:
            raise LossweaveError(f"--seed={self.seed} should be from 0 to 2^63 - 1")
        if File(self.out).exists() and not File(self.out).is_dir():
            raise LossweaveError(f"--out={self.out} is a file, but should be a folder")

    @property
    def names(self) -> tuple[str, ...]:
        """The combiners to simulate, in the order in which they are registered."""
        return tuple(combiner_names()) if self.combiners is None else self.combiners

    def key(self, name: str) -> str:
        """What decides the numbers of one combiner, as a short hash: settings and code."""
        content = hashlib.sha256()
        settings = (self.scales, self.seed, self.steps, self.settle, torch.__version__)
        content.update(repr(settings).encode())
        here = File(__file__).parent
        files = [here / f"{module}.py" for module in _OWN]
        for package in _CODE:
            files += sorted((here.parents[1] / package).rglob("*.py"))
        for file in sorted((here.parents[1] / "combiners").rglob("*.py")):
            if file.stem in _SHARED or (file.stem[0] == "_" and file.stem != "__init__"):
                files.append(file)
        for file in [*files, File(inspect.getfile(combiner_class(name)))]:
            content.update(file.read_bytes())
        return content.hexdigest()[:16]


def simulate_combiner(
    name: str, scales: Sequence[float], seed: int, steps: int, settle: int
) -> dict[str, Any]:
    """All of one combiner: its field, its trainings, and what is found, as JSON takes it.

    Args:
        name: of the combiner, with its standard arguments.
        scales: how much larger the second loss is made.
        seed: of the least-squares pair.
        steps: updates of a training.
        settle: updates of standing losses before the weights are read that move.
    """
    torch.set_num_threads(1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        plane = field_of(name, settle)
        trained = list(_trainings(name, scales, seed, steps))
        found = answer(
            name, settle, plane, [ended for ended, _ in trained],
            failed=lambda: any(_FAILED in str(one.message) for one in caught),
        )  # fmt: skip
    return {
        "name": name,
        "answer": found.as_data(),
        "field": {
            "exponents": list(plane.exponents),
            "updates": plane.updates,
            "moves": plane.moves,
            **{
                side: [[_short(getattr(point, side)) for point in row] for row in plane.points]
                for side in ("first", "second", "size")
            },
        },
        "paths": [
            {
                "problem": ended.problem,
                "optimizer": ended.optimizer,
                "scale": ended.scale,
                "start": ended.start,
                "result": ended.result,
                **_numbers(way),
            }
            for ended, way in trained
        ],
    }


def _trainings(
    name: str, scales: Sequence[float], seed: int, steps: int
) -> Iterable[tuple[Outcome, Path]]:
    for title in PROBLEMS:
        losses = problem(title, seed)
        for optimizer in OPTIMIZERS:
            for scale in scales:
                for place, start in enumerate(losses.starts):
                    way = path(name, losses, scale, optimizer, start, steps)
                    yield outcome(way, losses, optimizer, scale, place), way


def _numbers(way: Path) -> dict[str, Any]:
    return {
        "x": [_short(x) for x, _ in way.points],
        "y": [_short(y) for _, y in way.points],
        "first": [_short(value) for value, _ in way.losses],
        "second": [_short(value) for _, value in way.losses],
    }


def _short(value: float) -> float | None:
    """Four digits are enough for a picture."""
    return float(f"{value:.4g}") if math.isfinite(value) else None


def run_simulation(simulation: Simulation) -> dict[str, Any]:
    """Simulate what is not there yet, and write findings, report, pictures and page.

    Args:
        simulation: what to simulate.

    Returns:
        The findings, as they are in ``simulate.json``.
    """
    out = File(simulation.out)
    found = {one["name"]: one for one in _all(simulation, out / "parts")}
    combiners = [found[name] for name in simulation.names]
    for one in combiners:
        one["answer"]["words"] = words_of(one["answer"], simulation.settle)
    record = {
        **provenance(
            simulation.command,
            scales=list(simulation.scales),
            seed=simulation.seed,
            steps=simulation.steps,
            settle=simulation.settle,
            rates=OPTIMIZERS,
            thresholds=THRESHOLDS,
        ),
        "combiners": {one["name"]: one["answer"] for one in combiners},
    }
    problems = [problem(name, simulation.seed) for name in PROBLEMS]
    write_atomically(out / "simulate.json", json.dumps(record, indent=1).encode())
    write_pictures(combiners, problems, simulation.scales, out)
    write_page(combiners, problems, simulation.scales, out / "simulate.html")
    write_report(record, out / "simulate.md")
    print(f"{len(combiners)} combiners: {out / 'simulate.html'} to look at, {out / 'simulate.md'}")
    return record


def _all(simulation: Simulation, parts: File) -> Iterable[dict[str, Any]]:
    from tqdm import tqdm

    keys = {name: simulation.key(name) for name in simulation.names}
    missing = []
    with tqdm(total=len(simulation.names), unit="combiner", disable=None) as bar:
        for name in simulation.names:
            kept = _kept(parts / f"{name}.json", keys[name])
            if kept is None:
                missing.append(name)
            else:
                bar.update()
                yield kept
        for one in _made(simulation, missing):
            bar.set_postfix_str(one["name"])
            content = json.dumps({"key": keys[one["name"]], **one}, separators=(",", ":"))
            write_atomically(parts / f"{one['name']}.json", content.encode())
            bar.update()
            yield one


def _kept(file: File, key: str) -> dict[str, Any] | None:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    fine = isinstance(found, dict) and found.get("key") == key and found.get("name") == file.stem
    return found if fine else None


def _made(simulation: Simulation, names: Sequence[str]) -> Iterable[dict[str, Any]]:
    settings = (simulation.scales, simulation.seed, simulation.steps, simulation.settle)
    jobs = min(simulation.jobs, len(names))
    if jobs <= 1:
        for name in names:
            yield simulate_combiner(name, *settings)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(simulate_combiner, name, *settings) for name in names]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            for future in futures:
                future.cancel()
