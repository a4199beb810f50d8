"""Does every combiner train every detector: short trainings, finite, with falling losses."""

import gc
import hashlib
import json
import shutil
import time
import traceback
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from tqdm import tqdm

from lossweave.combiners import GradientCombiner, combiner_class
from lossweave.errors import LossweaveError, wrong_input
from lossweave.mmdet.configs import load_config, with_combiner
from lossweave.studies.ledger.book import LEDGER_FILE, Book, LedgerOptions
from lossweave.studies.ledger.facts import facts_of
from lossweave.studies.runs.console import StudyRunner
from lossweave.studies.runs.demo_data import ensure_data, stretched
from lossweave.studies.short_runs.findings import (
    CONFIGS,
    ShortRun,
    ShortRuns,
    gradient_combiners,
    judged,
)
from lossweave.studies.short_runs.report import outcome, write_short_runs
from lossweave.studies.short_runs.results import filled, run_of, wanted
from lossweave.utils.provenance import provenance

__all__ = ["run_short_runs"]

_FINISHED = "run.json"


def run_short_runs(short: ShortRuns) -> list[ShortRun]:
    """Train what the ledger lacks; write ``short_runs.md``, ``.json`` and ``.png``.

    The trainings follow each other in one process. One that fails is noted, and tried again
    the next time; the others go on.

    Returns:
        A record per detector and combiner; :attr:`ShortRun.good` says whether it is as it
        should be.

    Raises:
        LossweaveError: wrong input, before anything is trained.

    Example:
        >>> run_short_runs(ShortRuns(("MGDA",), ("ssd",), iterations=10))  # doctest: +SKIP
    """
    plans = _plan(short)
    ensure_data(load_config(CONFIGS[short.detectors[0]]))
    if short.fresh:
        (Path(short.work_dir) / LEDGER_FILE).unlink(missing_ok=True)
    book = Book(LedgerOptions(), short.work_dir)
    runs, results = [], []
    with tqdm(plans.items(), desc="trainings", unit="run") as bar:
        for (detector, combiner), cfg in bar:
            bar.set_postfix_str(f"{detector} {combiner}")
            asked = wanted(short, detector, _method(short, combiner), cfg.to_dict())
            result = book.found(asked)
            if result is None:
                runs.append(_trained(short, detector, combiner, cfg))
                # One that failed is tried again the next time, so it is no result.
                result = None if runs[-1].error else book.add(filled(asked, runs[-1]))
            else:
                runs.append(run_of(result))
            results += [result] if result is not None else []
            if not runs[-1].good:
                tqdm.write(f"{detector} {combiner}: {outcome(runs[-1])}")
    settings = asdict(short)
    facts = facts_of(results, settings=settings) if results else None
    write_short_runs(short, runs, facts or provenance(short.command, settings=settings))
    return runs


# ----------------------------------------------------------------------------- planning


def _plan(short: ShortRuns) -> dict[tuple[str, str], Config]:
    """Everything that can be wrong with the input is found here, before any training."""
    unknown = [name for name in short.detectors if name not in CONFIGS]
    if unknown:
        raise LossweaveError(f"detector {unknown[0]!r} should be one of {', '.join(CONFIGS)}")
    combiners = ("Sum", *gradient_combiners()) if short.combiners is None else short.combiners
    if not combiners or not short.detectors:
        raise LossweaveError("name at least one combiner and one detector")
    for name in combiners:
        combiner_class(name)
    if short.iterations < 5:
        raise LossweaveError(f"iterations={short.iterations} should be at least 5, to see a fall")
    if short.batch_size < 1:
        raise LossweaveError(f"batch_size={short.batch_size} should be at least 1")
    plans = {
        (detector, combiner): _config(short, detector, combiner)
        for detector in short.detectors
        for combiner in combiners
    }
    if short.boundary is not None:
        _check_boundary(short, plans)
    if not short.fresh:
        for key, cfg in plans.items():
            kept = _kept(short, *key)
            if kept is not None and kept["settings"] != _digest(cfg):
                raise LossweaveError(
                    f"{_folder(short, *key)} holds a training with other settings; start anew "
                    "with --fresh, or choose another --work-dir"
                )
    return plans


def _check_boundary(short: ShortRuns, plans: Mapping[tuple[str, str], Config]) -> None:
    """Build a model of each detector, which tells whether it has such modules."""
    for detector in short.detectors:
        bounded = (cfg for (of, name), cfg in plans.items() if of == detector and _bounded(name))
        if (cfg := next(bounded, None)) is not None:
            init_default_scope(cfg.get("default_scope", "mmdet"))
            with wrong_input(f"--boundary {short.boundary}, {detector}"):
                MODELS.build(cfg.model)


def _bounded(combiner: str) -> bool:
    return issubclass(combiner_class(combiner), GradientCombiner)


def _config(short: ShortRuns, detector: str, combiner: str) -> Config:
    options = {}
    if short.boundary is not None and _bounded(combiner):
        options["boundary"] = short.boundary
    cfg = with_combiner(load_config(CONFIGS[detector]), combiner, options)
    stretch = short.iterations / int(cfg.train_cfg.max_iters)
    schedulers = [stretched(dict(s), stretch) for s in cfg.get("param_scheduler") or []]
    for key in ("val", "test"):
        for part in ("cfg", "dataloader", "evaluator"):
            cfg[f"{key}_{part}"] = None
    cfg.train_cfg.pop("val_interval", None)
    cfg.default_hooks.pop("visualization", None)
    cfg.merge_from_dict(
        dict(
            log_level="ERROR",  # the progress bar is what a person reads
            randomness=dict(seed=short.seed),
            train_cfg=dict(max_iters=short.iterations),
            default_hooks=dict(logger=dict(interval=1), checkpoint=None),
            log_processor=dict(window_size=1),
            visualizer=dict(vis_backends=[dict(type="LocalVisBackend")]),
            train_dataloader=dict(batch_size=short.batch_size),
        )
    )
    cfg.param_scheduler = schedulers
    if not torch.cuda.is_available():  # small pictures: workers would only compete for the cores
        cfg.train_dataloader.update(num_workers=0, persistent_workers=False)
    cfg.work_dir = str(_folder(short, detector, combiner))
    cfg.experiment_name = f"short_{detector}_{combiner}"
    return cfg


def _method(short: ShortRuns, combiner: str) -> str:
    """The combiner, with the boundary that it was given."""
    bounded = short.boundary is not None and _bounded(combiner)
    return f"{combiner} boundary={short.boundary}" if bounded else combiner


def _folder(short: ShortRuns, detector: str, combiner: str) -> Path:
    return Path(short.work_dir) / detector / combiner


def _digest(cfg: Config) -> str:
    """Of all that was trained, wherever it was written."""
    content = {k: v for k, v in cfg.items() if k not in ("work_dir", "experiment_name")}
    return hashlib.sha256(json.dumps(content, default=str).encode()).hexdigest()[:12]


def _kept(short: ShortRuns, detector: str, combiner: str) -> dict[str, Any] | None:
    file = _folder(short, detector, combiner) / _FINISHED
    return json.loads(file.read_text()) if file.is_file() else None


# ----------------------------------------------------------------------------- training


def _trained(short: ShortRuns, detector: str, combiner: str, cfg: Config) -> ShortRun:
    folder = _folder(short, detector, combiner)
    kept = None if short.fresh else _kept(short, detector, combiner)
    if kept is not None:
        return ShortRun(**kept["run"])
    if folder.is_dir():  # an interrupted or failed one, or --fresh
        shutil.rmtree(folder)
    init_default_scope(cfg.get("default_scope", "mmdet"))
    started = time.perf_counter()
    error, sound = "", True
    folder.mkdir(parents=True)
    try:
        with open(folder / "output.txt", "w") as output, redirect_stdout(output):
            runner = StudyRunner.from_cfg(cfg.copy())
            runner.train()
        sound = all(bool(p.isfinite().all()) for p in runner.model.parameters())
        del runner
    except Exception as problem:  # the others are to be seen, too
        (folder / "error.txt").write_text(traceback.format_exc())
        error = f"{type(problem).__name__}: {' '.join(str(problem).split())[:200]}"
    gc.collect()
    run = judged(folder, detector, combiner, sound, time.perf_counter() - started, error)
    if not error:
        content = dict(settings=_digest(cfg), run=asdict(run))
        (folder / _FINISHED).write_text(json.dumps(content))
    return run
