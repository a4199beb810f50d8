"""Trainings as processes of their own: started, continued, tested, and never done twice.

Every training of a study is a ``tools/train.py``, so it can be repeated by hand. What is
finished is kept in its folder's ``score.json``; what was interrupted goes on with ``--resume``.
"""

import argparse
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from mmengine.config import DictAction

from lossweave.errors import LossweaveError, NonFiniteLossError
from lossweave.host.paths import resolve_config
from lossweave.mmdet.configs import load_config
from lossweave.studies.ledger.identity import code_of_today, machine_of_today, without_harmless
from lossweave.studies.runs.boxes import kept_boxes
from lossweave.studies.runs.method import AP, AP50, Score, Trial
from lossweave.studies.runs.processes import call, last_line, threads_for
from lossweave.studies.runs.record import read_run
from lossweave.utils.files import write_json
from lossweave.utils.provenance import versions

__all__ = [
    "parsed_options",
    "read_test_metrics",
    "refuse_other_settings",
    "serial_loading",
    "train_and_test",
]


def train_and_test(trial: Trial) -> Score:
    """Train (or go on, or find it finished), evaluate on the test split, and keep the score.

    Where the study asked for a learning rate, or says that it may, a training whose loss stops
    being finite has AP 0, and ``diverged`` among its details.

    Raises:
        LossweaveError: the training failed (its log is named), or the folder holds a finished
            training with other settings.
    """
    folder, seed = trial.folder, trial.seed
    finished = folder / "score.json"
    if finished.is_file():
        score = Score(**json.loads(finished.read_text()))
        _refuse_other(folder, score, trial.settings)
        return score
    folder.mkdir(parents=True, exist_ok=True)
    config, log = resolve_config(trial.config), folder / "log.txt"
    options = [f"randomness.seed={seed}", *trial.settings]
    method = trial.method
    train = [
        *("tools/train.py", config, "--work-dir", str(folder), "--exact-resume"),
        *("--combiner", method.combiner),
        *(["--combiner-options", *method.options] if method.options else []),
        *("--cfg-options", *options),
    ]
    resume = ["--resume"] if (folder / "last_checkpoint").is_file() else []
    command = shlex.join(["python", *train]).replace(config, trial.config)
    try:
        call([*train[:4], *resume, *train[4:]], log, trial.jobs)
    except NonFiniteLossError:
        if trial.rate is None and not trial.may_diverge:
            raise
        # Where rates are swept, a loss that stops being finite is a finding, not a mistake.
        details = dict(command=command, diverged=last_line(log), **_origin(trial))
        score = Score(method.label, seed, 0.0, 0.0, 0.0, details, trial.rate)
        write_json(finished, score.__dict__)
        return score
    run = read_run(folder, method.combiner)
    checkpoint = (folder / "last_checkpoint").read_text().strip()
    test = ["tools/test.py", config, checkpoint, "--work-dir", str(folder / "test")]
    tested = [*trial.options, *([kept_boxes(trial)] if trial.boxes else [])]
    call([*test, *(["--cfg-options", *tested] if tested else [])], log, trial.jobs)
    metrics = read_test_metrics(folder / "test")
    score = Score(
        method=method.label,
        seed=seed,
        val=run.metrics.get(AP, 0.0),
        test=metrics[AP],
        test50=metrics[AP50],
        details=dict(
            command=command,
            seconds_per_iteration=run.seconds_per_iteration,
            weights={name: term.weight.last for name, term in run.terms.items()},
            losses={name: term.value.last for name, term in run.terms.items()},
            seconds=run.iterations * run.seconds_per_iteration,
            metrics={name.rpartition("/")[2]: value for name, value in metrics.items()},
            **_origin(trial),
        ),
        rate=trial.rate,
    )
    write_json(finished, score.__dict__)
    return score


def _origin(trial: Trial) -> dict[str, Any]:
    """Which code trained it on what, for whoever finds the score in its folder."""
    on = machine_of_today(threads_for(trial.jobs))
    return dict(code=asdict(code_of_today()), machine=asdict(on), versions=versions())


def read_test_metrics(folder: Path) -> dict[str, float]:
    """What the newest test run wrote; a detector that finds nothing has no AP, i.e. 0.

    Raises:
        LossweaveError: nothing was written there.
    """
    files = sorted(folder.glob("*/*.json"), key=lambda path: path.stat().st_mtime)
    if not files:
        raise LossweaveError(f"{folder} holds no test metrics")
    return {AP: 0.0, AP50: 0.0, **json.loads(files[-1].read_text())}


def parsed_options(options: Sequence[str]) -> dict[str, Any]:
    """``--cfg-options`` as the tools read them.

    Example:
        >>> parsed_options(["train_cfg.max_iters=5", "model.type=SSD"])
        {'train_cfg.max_iters': 5, 'model.type': 'SSD'}
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--cfg-options", nargs="*", action=DictAction)
    return parser.parse_args(["--cfg-options", *options]).cfg_options or {}


def serial_loading(config: str) -> tuple[str, ...]:
    """Options that load data without workers, where there is no GPU to keep busy.

    Workers compete with torch's threads for the same cores (measured for the demo). With
    numbered draws the data are the same either way.

    Raises:
        LossweaveError: there is no such config.
    """
    if torch.cuda.is_available():
        return ()
    cfg = load_config(config)
    return tuple(
        f"{split}_dataloader.{setting}"
        for split in ("train", "val", "test")
        if cfg.get(f"{split}_dataloader") is not None
        for setting in ("num_workers=0", "persistent_workers=False")
    )


def refuse_other_settings(folder: Path, settings: Mapping[str, Any]) -> None:
    """Note in a folder what is trained there, and refuse it for anything else.

    Args:
        folder: a training's own.
        settings: plain values.

    Raises:
        LossweaveError: the folder has been begun with other settings.
    """
    noted = folder / "settings.json"
    wanted = json.loads(json.dumps(settings))
    if noted.is_file() and json.loads(noted.read_text()) != wanted:
        raise LossweaveError(
            f"{folder} holds a training with other settings ({noted}); choose another --work-dir"
        )
    if not noted.is_file():
        write_json(noted, wanted)


def _refuse_other(folder: Path, score: Score, options: Sequence[str]) -> None:
    words = shlex.split(score.details.get("command", ""))
    if "--cfg-options" not in words:
        return
    before = set(without_harmless(words[words.index("--cfg-options") + 1 :]))
    if before != set(without_harmless(options)):
        raise LossweaveError(
            f"{folder} holds a finished training with other --cfg-options "
            f"({' '.join(sorted(before)) or 'none'}); choose another --work-dir"
        )
