"""Taking turns by terms: is it the half-weighted sum, do longer turns help, do the tasks?

The trainings are those of :mod:`lossweave.studies.runs.training`; within a seed all methods share
initial weights and the order of the data. A task trained alone has no AP, so every term's loss
on the test split is measured as well.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from lossweave.errors import LossweaveError
from lossweave.host.paths import resolve_config
from lossweave.mmdet.configs import load_config
from lossweave.studies.ledger.book import Book
from lossweave.studies.ledger.result import Result
from lossweave.studies.runs.method import Trial
from lossweave.studies.runs.processes import call, run_all
from lossweave.studies.runs.record import read_run
from lossweave.studies.runs.results import wanted
from lossweave.studies.runs.training import (
    parsed_options,
    refuse_other_settings,
    serial_loading,
    train_and_test,
)
from lossweave.studies.turns.findings import Outcome, Turns, distances, standard_methods
from lossweave.studies.turns.results import (
    FIRST_ORDER,
    STUDY,
    distance_wanted,
    measured,
    report_turns,
    trained,
)

__all__ = ["run_turns"]

#: What the logger averages over its window; the terms and weights of every iteration, too.
_MEANS = ".*(loss|time|data_time|grad_norm|term_|weight_).*"


def run_turns(turns: Turns) -> list[Outcome]:
    """Train and measure what the ledger lacks, and write report, plots and record.

    Returns:
        One outcome per method and seed. With ``ledger.plan`` none: what is lacking is printed,
        and nothing is trained.

    Raises:
        LossweaveError: wrong input, or a training that failed (its log is named).
    """
    _check(turns)
    options = (*_recording(turns), *serial_loading(turns.config), *turns.options)
    asked = {
        (part, seed): Trial(method, seed, turns.config, turns.work_dir, options, turns.jobs)
        for seed in turns.seeds
        for part, method in turns.methods.items()
    }
    book = Book(turns.ledger, turns.work_dir)
    if turns.ledger.plan:
        print(book.plan_text([wanted(STUDY, trial, turns.command) for trial in asked.values()]))
        return []
    print("two plain steps of each seed, then the trainings")
    probes = [
        partial(_first_order, turns, book, asked["sum", seed], options) for seed in turns.seeds
    ]
    steps = run_all(probes, turns.jobs, "first order")
    work = [partial(_trained, turns, book, part, trial) for (part, _), trial in asked.items()]
    trainings = dict(zip(asked, run_all(work, turns.jobs, "trainings"), strict=True))
    distances = [
        _distance(book, trainings[part, seed], asked[part, seed], trainings["half", seed],
                  asked["half", seed])
        for part, seed in asked if part != "half"
    ]  # fmt: skip
    results = [*steps, *trainings.values(), *(found for found in distances if found)]
    return report_turns(turns, results)


def _check(turns: Turns) -> None:
    if not turns.seeds or turns.jobs < 1:
        raise LossweaveError("the study needs a seed and at least one job at a time")
    if len(set(turns.lengths)) < len(turns.lengths) or not turns.lengths:
        raise LossweaveError("lengths of turns should be given, and each only once")
    if min(turns.lengths) < 1:
        raise LossweaveError(f"a turn of {min(turns.lengths)} updates should be at least 1")
    methods = turns.methods
    if len(set(methods.values())) < len(standard_methods(turns.lengths)) + len(turns.also):
        raise LossweaveError("a method is named twice")
    cfg = load_config(turns.config)
    if cfg.get("model", {}).get("terms", "task") != "task":
        raise LossweaveError(f"{turns.config}: the study needs terms='task', that is cls and loc")


def _recording(turns: Turns) -> tuple[str, ...]:
    """Options that log the terms of every iteration as means, and sample the weights."""
    cfg = load_config(turns.config, parsed_options(turns.options))
    interval = cfg.get("default_hooks", {}).get("logger", {}).get("interval", 10)
    return (
        "default_hooks.lossweave.interval=1",
        "default_hooks.weight_sample.type=lossweave.WeightSampleHook",
        f"log_processor.window_size={interval}",
        f"log_processor.mean_pattern={_MEANS}",
    )


def _first_order(turns: Turns, book: Book, trial: Trial, options: Sequence[str]) -> Result:
    asked = replace(wanted(STUDY, trial, turns.command), method=FIRST_ORDER)
    return book.obtain(
        asked, lambda one: measured(one, first_order=_probe(turns, trial.seed, options))
    )


def _probe(turns: Turns, seed: int, options: Sequence[str]) -> dict[str, dict[str, float]]:
    folder = Path(turns.work_dir) / f"first_order_seed{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    refuse_other_settings(folder, dict(config=turns.config, options=list(options)))
    measured_there = folder / "first_order.json"
    if not measured_there.is_file():
        words = [
            *("lossweave.studies.turns.first_order", resolve_config(turns.config)),
            *("--seed", str(seed), "--out", str(measured_there), "--cfg-options", *options),
        ]
        call(words, folder / "log.txt", turns.jobs)
    return json.loads(measured_there.read_text())


def _trained(turns: Turns, book: Book, part: str, trial: Trial) -> Result:
    asked = wanted(STUDY, trial, turns.command)
    return book.obtain(asked, lambda one: trained(one, _outcome(part, trial)))


def _outcome(part: str, trial: Trial) -> Outcome:
    score = train_and_test(trial)
    folder = trial.folder
    losses = folder / "term_losses.json"
    if not losses.is_file():
        checkpoint = (folder / "last_checkpoint").read_text().strip()
        words = [
            *("lossweave.studies.turns.term_losses", resolve_config(trial.config), checkpoint),
            *("--out", str(losses)),
            *(["--cfg-options", *trial.options] if trial.options else []),
        ]
        call(words, folder / "log.txt", trial.jobs)
    run = read_run(folder, trial.method.label)
    return Outcome(part, score, json.loads(losses.read_text()), run)


def _distance(
    book: Book, training: Result, trial: Trial, half: Result, half_trial: Trial
) -> Result | None:
    """Of a training's weights to those of the half-weighted sum, if both were sampled here."""
    asked = distance_wanted(training)
    known = [one for one in book.reading.of(asked.training) if one.place == training.place]
    if known or training.place != half.place:
        return known[0] if known else None
    found = distances(_weights(trial.folder), _weights(half_trial.folder))
    return book.add(measured(asked, apart=found)) if found else None


def _weights(folder: Path) -> dict[int, np.ndarray]:
    """The samples that :class:`lossweave.mmdet.WeightSampleHook` wrote."""
    samples = sorted((folder / "weights").glob("iter_*.npy"))
    return {int(path.stem.removeprefix("iter_")): np.load(path) for path in samples}
