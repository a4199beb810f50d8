"""One detector trained with several combiners, on the same data in the same order, compared.

Each training goes through ``tools/train.py``'s own function with a small config file that is
written into the work directory, so it can be repeated, changed and continued by hand.
"""

import gc
import hashlib
import json
import os
import pprint
import shlex
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

from lossweave.errors import LossweaveError
from lossweave.host.options import TrainOptions
from lossweave.host.paths import resolve_config
from lossweave.mmdet import commands
from lossweave.mmdet.configs import load_config, with_combiner
from lossweave.studies.demo.report import comparison_table, write_report
from lossweave.studies.demo.sheet import draw_sheet
from lossweave.studies.report.plots import plot_history
from lossweave.studies.runs.demo_data import DEFAULT_CONFIG, ensure_data, stretched
from lossweave.studies.runs.record import RunRecord, read_run
from lossweave.utils.provenance import machine_line, provenance

__all__ = ["Demo", "run_demo"]

_FINISHED = "run.json"


@dataclass(frozen=True)
class Demo:
    """What to train and where.

    Args:
        config: path of an iteration-based config with COCO evaluation, or ``package::path``.
        combiners: names of combiners, trained one after another.
        seed: of initial weights, data order and random transforms.
        iterations: length of a training; schedules are stretched to it. None means the
            config's own.
        data_root: folder of the data; the demo data is made there if there is none. None
            means the config's own.
        work_dir: where everything is written.
        fresh: whether to discard earlier trainings in ``work_dir``.
        command: the command that asked for it, for the report.
    """

    config: str = DEFAULT_CONFIG
    combiners: tuple[str, ...] = ("Sum", "UncertaintyWeighting")
    seed: int = 0
    iterations: int | None = None
    data_root: str | None = None
    work_dir: str = "work_dirs/demo"
    fresh: bool = False
    command: str = "python tools/demo.py"


def run_demo(demo: Demo) -> list[RunRecord]:
    """Train, evaluate, compare; finished trainings are kept, interrupted ones continued.

    Writes, in ``demo.work_dir``: per combiner a config and a work directory, ``report.md``,
    ``terms.png``, ``weights.png``, ``sheet.png`` and ``record.json``.

    Returns:
        One record per combiner.

    Raises:
        LossweaveError: wrong input, before anything is trained.

    Example:
        >>> run_demo(Demo(combiners=("Sum", "DWA"), iterations=50))  # doctest: +SKIP
    """
    started = time.perf_counter()
    plans = _plan(demo)
    data = ensure_data(plans[0].cfg)
    runs = [_train(plan, f"[{i}/{len(plans)}]") for i, plan in enumerate(plans, start=1)]
    _write(demo, plans, runs, data)
    print(f"\n{comparison_table(runs)}\n")
    print(f"report:   {Path(demo.work_dir, 'report.md')}")
    print(f"curves:   tensorboard --logdir {demo.work_dir}")
    print(f"minutes:  {(time.perf_counter() - started) / 60:.1f}")
    return runs


# ---------------------------------------------------------------------------- planning


@dataclass(frozen=True)
class _Plan:
    combiner: str
    file: Path  # the config that is written
    folder: Path  # the training's work directory
    text: str  # what is written into the config
    cfg: Config  # the config as it will be

    def options(self, resume: bool) -> TrainOptions:
        """What is trained, as :attr:`command` asks it."""
        return TrainOptions(
            config=str(self.file),
            combiner=self.combiner,
            work_dir=str(self.folder),
            exact_resume=True,
            resume="auto" if resume else None,
        )

    @property
    def command(self) -> str:
        """The training alone, to be repeated by hand."""
        words = [*("python", "tools/train.py", str(self.file), "--combiner", self.combiner)]
        return shlex.join([*words, "--work-dir", str(self.folder), "--exact-resume"])

    @property
    def results(self) -> Path:
        return Path(f"{self.folder / 'val'}.bbox.json")


def _plan(demo: Demo) -> list[_Plan]:
    """Everything that can be wrong with the input is found here, before any training."""
    if not demo.combiners:
        raise LossweaveError("name at least one combiner")
    repeated = [name for name in demo.combiners if demo.combiners.count(name) > 1]
    if repeated:
        raise LossweaveError(f"the combiner {repeated[0]!r} is named twice")
    if demo.iterations is not None and demo.iterations < 1:
        raise LossweaveError(f"iterations={demo.iterations} should be at least 1")
    base = Path(resolve_config(demo.config))
    plans = []
    for name in demo.combiners:
        cfg = with_combiner(load_config(str(base)), name)
        file = Path(demo.work_dir) / f"{name}.py"
        plan = _Plan(name, file, file.with_suffix(""), *_own_config(demo, cfg, base, file))
        _refuse_other(plan, demo.fresh)
        plans.append(plan)
    return plans


def _own_config(demo: Demo, cfg: Config, base: Path, file: Path) -> tuple[str, Config]:
    """The text of a training's config over the demo's, and both merged."""
    overrides = _overrides(demo, cfg, file.with_suffix(""))
    cfg = cfg.copy()
    cfg.merge_from_dict(overrides)
    # What the base config says is part of what was trained, and may be edited between calls.
    digest = hashlib.sha256(cfg.pretty_text.encode()).hexdigest()[:12]
    lines = [
        f"# {file.stem} in the demo, written by tools/demo.py; settings {digest}",
        "#",
        f"# Command: python tools/train.py {file} --combiner {file.stem} \\",
        f"#     --work-dir {file.with_suffix('')} --exact-resume",
        f"_base_ = {os.path.relpath(base, file.parent)!r}",
        "",
        *(f"{key} = {pprint.pformat(value, sort_dicts=False)}" for key, value in overrides.items()),
    ]
    return "\n".join(lines) + "\n", cfg


def _overrides(demo: Demo, cfg: Config, folder: Path) -> dict[str, Any]:
    loop = cfg.get("train_cfg") or {}
    if "max_iters" not in loop:
        raise LossweaveError(f"{demo.config}: the demo needs a config that counts iterations")
    evaluator = cfg.get("val_evaluator")
    if not isinstance(evaluator, Mapping) or "CocoMetric" not in str(evaluator.get("type")):
        raise LossweaveError(f"{demo.config}: the demo needs a CocoMetric as val_evaluator")
    iterations = demo.iterations or int(loop["max_iters"])
    interval = min(int(cfg.default_hooks.logger.get("interval", 10)), iterations)
    own: dict[str, Any] = dict(
        custom_imports=dict(imports=[*_imports(cfg), "lossweave.studies.runs.console"]),
        runner_type="StudyRunner",
        experiment_name=f"{Path(demo.config).stem}_{folder.name}",
        randomness=dict(seed=demo.seed),
        train_cfg=dict(max_iters=iterations, val_interval=iterations),
        default_hooks=dict(
            # so that little is lost where not even Ctrl-C comes first
            checkpoint=dict(interval=max(1, iterations // 5), max_keep_ckpts=1),
            logger=dict(interval=interval),
            # terms at every iteration: what is logged is then a mean, as for the losses
            lossweave=dict(interval=1),
        ),
        log_processor=dict(
            window_size=interval, mean_pattern=r".*(loss|time|data_time|grad_norm|term_).*"
        ),
        visualizer=dict(vis_backends=_backends(cfg)),
        val_evaluator=dict(outfile_prefix=str(folder / "val")),
    )
    if iterations != loop["max_iters"]:
        stretch = iterations / int(loop["max_iters"])
        own["param_scheduler"] = [
            stretched(_plain(scheduler), stretch) for scheduler in cfg.get("param_scheduler") or []
        ]
    if demo.data_root is not None:
        _move_data(own, cfg, demo.data_root)
    if not torch.cuda.is_available():
        # Measured on 2 cores: small pictures load in 3 % of a step, and workers only compete
        # with torch's threads (0.35 s an iteration with 2 workers, 0.28 s with none). Numbered
        # draws make the data the same either way.
        for split in ("train", "val", "test"):
            if cfg.get(f"{split}_dataloader") is not None:
                loader = own.setdefault(f"{split}_dataloader", {})
                loader.update(num_workers=0, persistent_workers=False)
    return own


def _imports(cfg: Config) -> list[str]:
    found = (cfg.get("custom_imports") or {}).get("imports", [])
    return [found] if isinstance(found, str) else list(found)


def _backends(cfg: Config) -> list[dict[str, Any]]:
    found = (cfg.get("visualizer") or {}).get("vis_backends") or [dict(type="LocalVisBackend")]
    backends = [_plain(backend) for backend in found]
    there = any(backend["type"] == "TensorboardVisBackend" for backend in backends)
    if not there and find_spec("tensorboard"):
        backends.append(dict(type="TensorboardVisBackend"))
    return backends


def _move_data(own: dict[str, Any], cfg: Config, root: str) -> None:
    """Point the data loaders, and the evaluators' annotation files, at another folder."""
    for split in ("train", "val", "test"):
        loader = cfg.get(f"{split}_dataloader")
        if loader is None or "data_root" not in loader.dataset:
            raise LossweaveError(f"{split}_dataloader.dataset of the config has no data_root")
        own[f"{split}_dataloader"] = dict(dataset=dict(data_root=root))
        if split != "train":
            evaluator = own.setdefault(f"{split}_evaluator", {})
            evaluator["ann_file"] = str(Path(root) / loader.dataset.ann_file)


def _refuse_other(plan: _Plan, fresh: bool) -> None:
    if not plan.folder.exists():
        return
    ours = plan.file.is_file()
    if fresh and ours:
        return
    if not ours:
        raise LossweaveError(f"{plan.folder} was not made by the demo; choose another --work-dir")
    if plan.file.read_text() != plan.text:
        raise LossweaveError(
            f"{plan.folder} holds a training with other settings; start anew with --fresh, or "
            "choose another --work-dir"
        )


def _plain(value: Any) -> Any:
    return value.to_dict() if hasattr(value, "to_dict") else dict(value)


# ----------------------------------------------------------------------------- running


def _train(plan: _Plan, place: str) -> RunRecord:
    finished = plan.folder / _FINISHED
    same = plan.file.is_file() and plan.file.read_text() == plan.text
    if same and finished.is_file():
        print(f"{place} {plan.combiner}: finished already, kept ({plan.folder})")
        return RunRecord.from_dict(json.loads(finished.read_text()))
    resume = same and (plan.folder / "last_checkpoint").is_file()
    if plan.folder.exists() and not resume:
        shutil.rmtree(plan.folder)  # --fresh, or nothing in it to go on from
    plan.folder.mkdir(parents=True, exist_ok=True)
    plan.file.write_text(plan.text)
    iterations = plan.cfg.train_cfg.max_iters
    how = "goes on where it was interrupted" if resume else f"{iterations} iterations"
    print(f"{place} {plan.combiner}: {how} ({plan.folder})", flush=True)
    started = time.perf_counter()
    try:
        runner = commands.train(plan.options(resume))
    except KeyboardInterrupt:
        print("the same command goes on from here", file=sys.stderr)
        raise
    if not plan.results.is_file():  # interrupted after the last iteration, before its evaluation
        runner.val()
    record = read_run(
        plan.folder,
        plan.combiner,
        **provenance(
            plan.command,
            seed=int(plan.cfg.randomness.seed),
            minutes=None if resume else (time.perf_counter() - started) / 60,
        ),
    )
    finished.write_text(json.dumps(record.as_dict(), indent=1))
    # The data loaders' workers live as long as the runner does.
    del runner
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return record


def _write(demo: Demo, plans: Sequence[_Plan], runs: Sequence[RunRecord], data: str) -> None:
    folder = Path(demo.work_dir)
    validation = plans[0].cfg.val_dataloader.dataset
    root = Path(validation.data_root)
    pictures = {
        "terms": plot_history(runs, "value", folder / "terms.png"),
        "weights": plot_history(runs, "weight", folder / "weights.png"),
        "sheet": draw_sheet(
            folder / "sheet.png",
            root / validation.ann_file,
            root / validation.data_prefix.get("img", ""),
            {plan.combiner: plan.results for plan in plans},
        ),
    }
    facts = provenance(
        demo.command,
        config=demo.config,
        seed=demo.seed,
        data=data,
        window=plans[0].cfg.log_processor.window_size,
    )
    content = {**facts, "runs": [run.as_dict() for run in runs]}
    (folder / "record.json").write_text(json.dumps(content, indent=1))
    named = {what: path.name for what, path in pictures.items()}
    shown = {**facts, "machine": machine_line()}
    (folder / "report.md").write_text(write_report(runs, named, shown))
