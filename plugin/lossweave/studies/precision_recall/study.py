"""Trains each config with each seed, and reads precision over recall from the test split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from lossweave.errors import LossweaveError
from lossweave.mmdet.configs import load_config
from lossweave.studies.ledger.book import Book
from lossweave.studies.ledger.result import Result
from lossweave.studies.precision_recall.curves import NOTHING, Curves, curves_of
from lossweave.studies.precision_recall.findings import Asked
from lossweave.studies.precision_recall.rates import chosen_rates
from lossweave.studies.precision_recall.results import STUDY, report_detectors, with_curves
from lossweave.studies.runs.boxes import boxes_of
from lossweave.studies.runs.method import RATE, Method, Trial
from lossweave.studies.runs.processes import run_all
from lossweave.studies.runs.results import filled, wanted
from lossweave.studies.runs.training import parsed_options, serial_loading, train_and_test

__all__ = ["run_detectors"]


def run_detectors(asked: Asked) -> list[Result]:
    """Train and measure what the ledger lacks, and write report, plots and record.

    Returns:
        A result per config and seed, then those at further rates: of the first seed at every
        rate, of the others at the one with the best AP on the validation split. With
        ``ledger.plan`` none: what is lacking is printed.

    Raises:
        LossweaveError: wrong input, or a training that failed (its log is named).
    """
    trials = [*_trials(asked), *_swept(asked)]
    book = Book(asked.ledger, asked.work_dir)
    if asked.ledger.plan:
        print(book.plan_text([wanted(STUDY, t, asked.command) for t in trials], _names(trials)))
        if asked.rates and asked.seeds[1:]:
            print("then further seeds at the rates that these choose")
        return []
    results = _done(book, asked, trials, "trainings")
    if asked.rates:
        chosen = chosen_rates([one for one in results if one.seed == asked.seeds[0]])
        rest = [
            replace(trial, rate=chosen[trial.config])
            for trial in _trials(asked)
            if trial.seed != asked.seeds[0] and chosen[trial.config] is not None
        ]
        results += _done(book, asked, rest, "at the best rates")
    report_detectors(asked, results)
    return results


def _done(book: Book, asked: Asked, trials: Sequence[Trial], what: str) -> list[Result]:
    work = [partial(_obtained, book, trial, asked.command) for trial in trials]
    return run_all(work, asked.jobs, what)


def _names(trials: Sequence[Trial]) -> list[str]:
    return [
        f"{Path(t.config).stem}, {t.method.label}, seed {t.seed}"
        + ("" if t.rate is None else f", lr {t.rate:g}")
        for t in trials
    ]


def _swept(asked: Asked) -> list[Trial]:
    """Every config with the first seed at the further rates."""
    if not asked.rates:
        return []
    if len(set(asked.rates)) < len(asked.rates):
        raise LossweaveError("--rates: a learning rate is given twice")
    if any(option.partition("=")[0] == RATE for option in asked.options):
        raise LossweaveError(f"--rates and --cfg-options {RATE} exclude each other")
    for config in asked.configs:
        own = load_config(config).get("optim_wrapper", {}).get("optimizer", {}).get("lr")
        if own in asked.rates:
            raise LossweaveError(f"--rates: {own:g} is that of {config}, which is tried anyway")
    first = [trial for trial in _trials(asked) if trial.seed == asked.seeds[0]]
    return [replace(trial, rate=rate) for trial in first for rate in asked.rates]


def _trials(asked: Asked) -> list[Trial]:
    """One seed of every config after the other, so that what is finished makes pairs."""
    if len(asked.configs) < 2 or len(set(asked.configs)) < len(asked.configs):
        raise LossweaveError("name two configs or more, each once: the first is the reference")
    if len({Path(config).stem for config in asked.configs}) < len(asked.configs):
        raise LossweaveError("the configs' file names should differ; they name the folders")
    if not asked.seeds or min(asked.seeds) < 0 or asked.jobs < 1:
        raise LossweaveError("the study needs seeds from 0 on and at least one job at a time")
    method = Method.parse(asked.method)
    return [
        Trial(
            method,
            seed,
            config,
            str(Path(asked.work_dir) / Path(config).stem),
            (*serial_loading(config), *asked.options),
            asked.jobs,
            boxes=True,
        )
        for seed in asked.seeds
        for config in asked.configs
    ]


def _obtained(book: Book, trial: Trial, command: str) -> Result:
    def train(one: Result) -> Result:
        result = filled(one, train_and_test(trial))
        return with_curves(result, NOTHING if "diverged" in result.details else _curves(trial))

    return book.obtain(wanted(STUDY, trial, command), train)


def _curves(trial: Trial) -> Curves:
    """Of the finished training's boxes on the test split, by the framework's own metric."""
    cfg = load_config(trial.config, parsed_options(trial.options))
    return curves_of(cfg.test_evaluator.ann_file, boxes_of(trial))
