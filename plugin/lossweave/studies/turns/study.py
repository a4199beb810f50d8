"""Taking turns by terms: is it the half-weighted sum, do longer turns help, do the tasks?

The trainings are those of :mod:`lossweave.studies.runs.training`; within a seed all methods share
initial weights and the order of the data. A task trained alone has no AP, so every term's loss
on the test split is measured as well.
"""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from lossweave.errors import LossweaveError
from lossweave.host.paths import resolve_config
from lossweave.mmdet.configs import load_config
from lossweave.studies.runs.method import Trial
from lossweave.studies.runs.processes import call, run_all
from lossweave.studies.runs.record import read_run
from lossweave.studies.runs.training import (
    parsed_options,
    refuse_other_settings,
    serial_loading,
    train_and_test,
)
from lossweave.studies.turns.findings import Outcome, Turns, answer, standard_methods
from lossweave.studies.turns.report import write_turns
from lossweave.utils.provenance import provenance

__all__ = ["run_turns"]

#: What the logger averages over its window; the terms and weights of every iteration, too.
_MEANS = ".*(loss|time|data_time|grad_norm|term_|weight_).*"


def run_turns(turns: Turns) -> list[Outcome]:
    """Train what is not trained yet, measure, and write report, plots and record.

    Returns:
        One outcome per method and seed.

    Raises:
        LossweaveError: wrong input, or a training that failed (its log is named).
    """
    _check(turns)
    options = (*_recording(turns), *serial_loading(turns.config), *turns.options)
    print("two plain steps of each seed, then the trainings")
    probes = [partial(_probe, turns, seed, options) for seed in turns.seeds]
    steps = run_all(probes, turns.jobs, "first order")
    work = [
        partial(
            _outcome, part, Trial(method, seed, turns.config, turns.work_dir, options, turns.jobs)
        )
        for seed in turns.seeds
        for part, method in turns.methods.items()
    ]
    outcomes = run_all(work, turns.jobs, "trainings")
    found = answer(outcomes, turns.lengths, steps)
    facts = provenance(
        turns.command,
        config=turns.config,
        seeds=turns.seeds,
        lengths=turns.lengths,
        options=turns.options,
    )
    write_turns(turns, outcomes, found, facts)
    return outcomes


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


def _probe(turns: Turns, seed: int, options: Sequence[str]) -> dict[str, dict[str, float]]:
    folder = Path(turns.work_dir) / f"first_order_seed{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    refuse_other_settings(folder, dict(config=turns.config, options=list(options)))
    measured = folder / "first_order.json"
    if not measured.is_file():
        words = [
            *("lossweave.studies.turns.first_order", resolve_config(turns.config)),
            *("--seed", str(seed), "--out", str(measured), "--cfg-options", *options),
        ]
        call(words, folder / "log.txt", turns.jobs)
    return json.loads(measured.read_text())


def _outcome(part: str, trial: Trial) -> Outcome:
    score = train_and_test(trial)
    folder = trial.folder
    measured = folder / "term_losses.json"
    if not measured.is_file():
        checkpoint = (folder / "last_checkpoint").read_text().strip()
        words = [
            *("lossweave.studies.turns.term_losses", resolve_config(trial.config), checkpoint),
            *("--out", str(measured)),
            *(["--cfg-options", *trial.options] if trial.options else []),
        ]
        call(words, folder / "log.txt", trial.jobs)
    samples = sorted((folder / "weights").glob("iter_*.npy"))
    return Outcome(
        part,
        score,
        json.loads(measured.read_text()),
        read_run(folder, trial.method.label),
        {int(path.stem.removeprefix("iter_")): np.load(path) for path in samples},
    )
