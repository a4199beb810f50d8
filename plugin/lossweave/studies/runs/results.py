"""Trainings as results of a ledger: what is wanted, what came of it, and back to its score."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from functools import cache
from typing import Any

from lossweave.mmdet.configs import load_config
from lossweave.studies.ledger.book import Book
from lossweave.studies.ledger.identity import (
    code_of_today,
    config_hash,
    machine_of_today,
    without_harmless,
)
from lossweave.studies.ledger.result import Code, Machine, Result
from lossweave.studies.runs.method import Score, Trial
from lossweave.studies.runs.processes import threads_for
from lossweave.studies.runs.training import parsed_options, train_and_test

__all__ = ["filled", "obtained", "score_of", "wanted"]

_SCORES = ("val", "test", "test50")
#: What of a score's details has a field of its own in a result.
_FIELDS = ("command", "losses", "seconds", "seconds_per_iteration", "code", "machine", "versions")


def wanted(study: str, trial: Trial, asked: str) -> Result:
    """What a study asks for, by today's code on this machine.

    Args:
        study: its name.
        trial: the training.
        asked: the study's command.

    Raises:
        LossweaveError: there is no such config.
    """
    options = without_harmless(trial.options)
    hashed, budget = _resolved(trial.config, options)
    return Result(
        study=study,
        config=trial.config,
        config_hash=hashed,
        method=trial.method.label,
        seed=trial.seed,
        budget=dict(budget),
        options=options,
        rate=trial.rate,
        code=code_of_today(),
        machine=machine_of_today(threads_for(trial.jobs)),
        asked=asked,
    )


def obtained(book: Book, study: str, trial: Trial, asked: str) -> Result:
    """The result of a training, which is done where the ledger lacks it.

    Args:
        book: the study's ledgers.
        study: its name.
        trial: the training.
        asked: the study's command.

    Raises:
        LossweaveError: the training failed (its log is named).
    """
    return book.obtain(wanted(study, trial, asked), lambda one: filled(one, train_and_test(trial)))


def filled(asked_for: Result, score: Score) -> Result:
    """The result that a training's score makes of what was wanted.

    A score that was kept in its folder says which code and machine it is of; one of before
    that was recorded is of code and machine that are not known.
    """
    details = score.details
    seconds = {
        "training": details.get("seconds"),
        "iteration": details.get("seconds_per_iteration"),
    }
    return replace(
        asked_for,
        code=Code(**details.get("code", {})),
        machine=Machine(**details.get("machine", {})),
        date=date.today().isoformat(),
        command=details.get("command", ""),
        scores={name: getattr(score, name) for name in _SCORES},
        losses=details.get("losses", {}),
        seconds={name: value for name, value in seconds.items() if value is not None},
        versions=details.get("versions", {}),
        details={name: value for name, value in details.items() if name not in _FIELDS},
    )


def score_of(result: Result) -> Score:
    """The score of a training that is in a ledger."""
    details: dict[str, Any] = dict(command=result.command)
    if "iteration" in result.seconds:
        details["seconds_per_iteration"] = result.seconds["iteration"]
    details.update(result.details)
    if result.losses:
        details["losses"] = dict(result.losses)
    return Score(
        method=result.method,
        seed=result.seed,
        **{name: result.scores[name] for name in _SCORES},
        details=details,
        rate=result.rate,
        place=result.place,
    )


@cache
def _resolved(config: str, options: tuple[str, ...]) -> tuple[str, tuple[tuple[str, int], ...]]:
    cfg = load_config(config, parsed_options(options))
    return config_hash(cfg.to_dict()), tuple(_budget(cfg).items())


def _budget(cfg: Mapping[str, Any]) -> dict[str, int]:
    loop = cfg.get("train_cfg") or {}
    loader = cfg.get("train_dataloader") or {}
    found = {
        "iterations": loop.get("max_iters"),
        "epochs": loop.get("max_epochs"),
        "batch_size": loader.get("batch_size"),
    }
    return {name: int(value) for name, value in found.items() if value is not None}
