"""Trainings in rungs: started, gone on with, scored at every rung, and kept in the ledger."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from math import ceil
from pathlib import Path
from typing import Any

from lossweave.errors import LossweaveError, NonFiniteLossError
from lossweave.host.lock import locked
from lossweave.host.paths import framework_of, resolve_config
from lossweave.mmdet.configs import combiner_label, load_config, type_name
from lossweave.studies.ledger.book import Book
from lossweave.studies.ledger.identity import (
    code_of_today,
    config_hash,
    machine_of_today,
    without_harmless,
)
from lossweave.studies.ledger.result import Result
from lossweave.studies.runs.method import RATE
from lossweave.studies.runs.processes import call, last_line, threads_for
from lossweave.studies.runs.training import parsed_options, serial_loading
from lossweave.studies.tune.scores import METRICS, Quality, quality_of
from lossweave.studies.tune.space import Point
from lossweave.utils.provenance import versions

__all__ = ["STUDY", "Setting", "rung_options", "setting_of", "train_rungs", "wanted"]

STUDY = "tune"
_NEVER = 10**9
_GLANCE = 1.0


@dataclass(frozen=True)
class Setting:
    """What all trainings of a search share.

    Args:
        config: as typed.
        options: further ``--cfg-options``.
        seed: of the first weights and of the draws, the same for all.
        length: of a whole training, in iterations or epochs.
        unit: which of the two.
        budget: as a ledger's results say it.
        hash: of the resolved config.
        rate: the config's learning rate.
        annotations: COCO annotations of the validation split.
        classes: those that are detected; all of the annotations' if empty.
        loading: options that load without workers where there is no GPU.
        asked: the study's command.
        jobs: trainings that share the cores.
    """

    config: str
    options: tuple[str, ...]
    seed: int
    length: int
    unit: str
    budget: Mapping[str, int]
    hash: str
    rate: float
    annotations: str
    classes: tuple[str, ...] = ()
    loading: tuple[str, ...] = ()
    asked: str = ""
    jobs: int = 1

    def rungs(self, fractions: Sequence[float]) -> tuple[int, ...]:
        """Where a training is looked at, rounded up; its end is the last.

        Args:
            fractions: of a whole training.

        Raises:
            LossweaveError: one is not above 0 and at most 1.
        """
        wrong = [f for f in fractions if not 0 < f <= 1]
        if wrong:
            raise LossweaveError(f"--rungs: {wrong[0]:g} is no part of a training, above 0 to 1")
        found = {ceil(round(f * self.length, 6)) for f in (*fractions, 1.0)}
        return tuple(sorted(found))


def setting_of(
    config: str, options: Sequence[str] = (), seed: int = 0, asked: str = "", jobs: int = 1
) -> Setting:
    """Read from a config what a search needs, and refuse one that cannot be searched.

    Raises:
        LossweaveError: no config, no validation set, no COCO metric, no rate, a combiner other
            than the sum, or a training loop of another kind.
    """
    if framework_of(config) != "mmdet":
        raise LossweaveError(f"{config}: tune.py takes MMDetection's configs; this is Detectron2's")
    cfg = load_config(config, parsed_options(options))
    label = combiner_label(cfg)
    if label not in ("stock", "Sum"):
        raise LossweaveError(f"{config}: its combiner is {label}; the weights of the Sum are tuned")
    loop = cfg.get("train_cfg") or {}
    unit = "iterations" if loop.get("max_iters") else "epochs"
    length = loop.get("max_iters") or loop.get("max_epochs")
    if not length:
        raise LossweaveError(f"{config}: train_cfg has neither max_iters nor max_epochs")
    rate = ((cfg.get("optim_wrapper") or {}).get("optimizer") or {}).get("lr")
    if not rate:
        raise LossweaveError(f"{config} has no {RATE}")
    batch = (cfg.get("train_dataloader") or {}).get("batch_size")
    return Setting(
        config=config,
        options=without_harmless(options),
        seed=seed,
        length=int(length),
        unit=unit,
        budget={unit: int(length), **({"batch_size": int(batch)} if batch else {})},
        hash=config_hash(cfg.to_dict()),
        rate=float(rate),
        annotations=_annotations(cfg, config),
        classes=tuple((_leaf(cfg.val_dataloader.dataset).get("metainfo") or {}).get("classes", ())),
        loading=serial_loading(config),
        asked=asked,
        jobs=jobs,
    )


def _annotations(cfg: Any, config: str) -> str:
    """Where the validation split's COCO annotations are.

    Raises:
        LossweaveError: there is no such split, or it is scored by something else.
    """
    if cfg.get("val_dataloader") is None or cfg.get("val_evaluator") is None:
        raise LossweaveError(
            f"{config} has no validation set (val_dataloader, val_evaluator), by which to choose"
        )
    evaluators = cfg.val_evaluator
    evaluators = evaluators if isinstance(evaluators, (list, tuple)) else [evaluators]
    found = [one for one in evaluators if type_name(one.get("type")) == "CocoMetric"]
    if not found:
        names = ", ".join(type_name(one.get("type")) or "none" for one in evaluators)
        raise LossweaveError(
            f"{config}: val_evaluator is {names}; a CocoMetric is needed, whose AP is compared"
        )
    path = found[0].get("ann_file")
    if not path or not Path(path).is_file():
        raise LossweaveError(f"{config}: there are no validation annotations {path!r}")
    return str(path)


def _leaf(dataset: Any) -> Any:
    while dataset.get("dataset") is not None:
        dataset = dataset.dataset
    return dataset


def wanted(setting: Setting, point: Point, rung: int) -> Result:
    """What is asked for: a point's training, up to a rung, by today's code on this machine."""
    return Result(
        study=STUDY,
        config=setting.config,
        config_hash=setting.hash,
        method=point.method,
        seed=setting.seed,
        budget={**setting.budget, "rung": rung},
        options=setting.options,
        rate=point.rate,
        code=code_of_today(),
        machine=machine_of_today(threads_for(setting.jobs)),
        asked=setting.asked,
    )


def rung_options(setting: Setting, rate: float | None, rungs: Sequence[int]) -> tuple[str, ...]:
    """The ``--cfg-options`` of a training that is looked at at rungs, and ends at the last."""
    return (
        f"randomness.seed={setting.seed}",
        *setting.options,
        *((f"{RATE}={rate!r}",) if rate is not None else ()),
        "default_hooks.rungs.type=lossweave.RungHook",
        f"default_hooks.rungs.at=[{','.join(map(str, rungs))}]",
        f"train_cfg.val_begin={_NEVER}",  # the hook evaluates
        "default_hooks.checkpoint.type=lossweave.CheckpointHook",
        f"default_hooks.checkpoint.interval={_NEVER}",  # and saves
        f"default_hooks.checkpoint.by_epoch={setting.unit == 'epochs'}",
        "default_hooks.checkpoint.save_last=False",
        *setting.loading,
    )


def train_rungs(
    setting: Setting, point: Point, rungs: Sequence[int], folder: Path, book: Book
) -> list[Result]:
    """The results of a point at rungs, of which those that are lacking are trained.

    A training goes on from the checkpoint that is in its folder. One whose loss stops being
    finite has AP 0 from there on.

    Args:
        setting: what all trainings share.
        point: this one's weights and rate.
        rungs: ascending.
        folder: the training's own.
        book: the ledger.

    Raises:
        LossweaveError: the training failed; its log is named.
    """
    asked = [wanted(setting, point, rung) for rung in rungs]
    book.reread()
    known = [book.found(one) for one in asked]
    if all(known):
        return [one for one in known if one is not None]
    wait_for(folder)
    method, *options = point.method.split()
    train = [
        *("tools/train.py", resolve_config(setting.config), "--work-dir", str(folder)),
        *("--exact-resume", "--combiner", method, "--combiner-options", *options),
        *("--cfg-options", *rung_options(setting, point.rate, rungs)),
    ]
    resume = ["--resume"] if (folder / "last_checkpoint").is_file() else []
    command = shlex.join(["python", *train]).replace(train[1], setting.config)
    began, diverged = time.monotonic(), ""
    try:
        call([*train[:4], *resume, *train[4:]], folder / "log.txt", setting.jobs)
    except NonFiniteLossError:
        diverged = last_line(folder / "log.txt")
    seconds = time.monotonic() - began
    _keep_newest(folder)
    results = []
    for one, before in zip(asked, known, strict=True):
        rung = one.budget["rung"]
        found = folder / f"rung_{rung}.bbox.json"
        if before is not None:
            results.append(before)
            continue
        quality = Quality(0.0, 0.0, 0.0, dict.fromkeys(METRICS, (0.0,)))
        if found.is_file():
            quality = quality_of(found, setting.annotations, setting.classes)
        elif not diverged:
            raise LossweaveError(f"{folder} holds no detections of rung {rung}")
        details: dict[str, Any] = dict(left_out=quality.as_dict()["left_out"], ratios=point.ratios)
        if diverged and not found.is_file():
            details["diverged"] = diverged
        results.append(
            book.add(
                replace(
                    one,
                    date=date.today().isoformat(),
                    command=command,
                    scores={m: quality.as_dict()[m] for m in METRICS},
                    # All of the process, evaluations included, is the last rung's.
                    seconds={"training": seconds} if one is asked[-1] else {},
                    versions=versions(),
                    details=details,
                )
            )
        )
    return results


def wait_for(folder: Path) -> None:
    """Make a folder; a training that a killed worker has left running in it is waited for."""
    while True:
        try:
            with locked(folder):
                return
        except LossweaveError:
            if not folder.is_dir():
                raise
        time.sleep(_GLANCE)


def _keep_newest(folder: Path) -> None:
    """Only the checkpoint that is gone on from is kept."""
    try:
        newest = Path((folder / "last_checkpoint").read_text().strip()).name
    except OSError:
        return
    for path in folder.glob("*.pth"):
        if path.name != newest:
            path.unlink(missing_ok=True)
