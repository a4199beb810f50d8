"""Does every combiner train every detector: short trainings, finite, with falling losses."""

import gc
import hashlib
import json
import math
import shutil
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from tqdm import tqdm

from lossweave.combiners import GradientCombiner, combiner_class, combiner_names
from lossweave.errors import LossweaveError
from lossweave.mmdet.configs import load_config, with_combiner
from lossweave.studies.demo.study import ensure_data, stretched
from lossweave.studies.report.plots import plot_short_runs
from lossweave.studies.report.tables import markdown_table, text_table
from lossweave.studies.runs.console import StudyRunner
from lossweave.studies.runs.record import read_run
from lossweave.utils.provenance import machine_line, provenance

__all__ = [
    "CONFIGS",
    "ShortRun",
    "ShortRuns",
    "gradient_combiners",
    "judged",
    "run_short_runs",
    "summary",
]

#: The demo's detectors.
CONFIGS = {
    "ssd": "lossweave::mmdet/demo/ssd_demo.py",
    "retinanet": "lossweave::mmdet/demo/retinanet_demo.py",
    "faster_rcnn": "lossweave::mmdet/demo/faster-rcnn_demo.py",
}
_FINISHED = "run.json"


def gradient_combiners() -> list[str]:
    """The registered combiners that need each term's own gradient."""
    return [n for n in combiner_names() if issubclass(combiner_class(n), GradientCombiner)]


@dataclass(frozen=True)
class ShortRuns:
    """What to train.

    Args:
        combiners: names; None means the plain sum, to compare with, and all that need gradients.
        detectors: keys of :data:`CONFIGS`.
        iterations: length of a training; schedules are shortened to it.
        batch_size: pictures an iteration.
        boundary: where gradients are combined; None means each combiner's own. Combiners of
            values have none.
        seed: of initial weights and data order, the same for all.
        work_dir: where everything is written; finished trainings are kept.
        fresh: whether to discard earlier trainings there.
        command: the command that asked for it.
    """

    combiners: tuple[str, ...] | None = None
    detectors: tuple[str, ...] = tuple(CONFIGS)
    iterations: int = 100
    batch_size: int = 4
    boundary: str | None = None
    seed: int = 0
    work_dir: str = "work_dirs/short_runs"
    fresh: bool = False
    command: str = "python tools/short_runs.py"


@dataclass(frozen=True)
class ShortRun:
    """One training and what is said of it.

    Args:
        detector: its name.
        combiner: the combiner's name.
        terms: by name, every iteration's raw value.
        finite: whether all that was logged, and all weights at the end, are finite.
        seconds: of training, start and data included.
        error: the message it ended with; empty where it ran to its end.
    """

    detector: str
    combiner: str
    terms: dict[str, list[float]]
    finite: bool
    seconds: float
    error: str = ""

    def means(self, term: str) -> tuple[float, float]:
        """A term's mean over the first and over the last fifth of the iterations."""
        values = self.terms[term]
        part = max(1, len(values) // 5)
        return sum(values[:part]) / part, sum(values[-part:]) / part

    @property
    def total(self) -> tuple[float, float]:
        """The same of the terms' sum, the value that combiners of gradients lower."""
        firsts, lasts = zip(*(self.means(term) for term in self.terms), strict=True)
        return sum(firsts), sum(lasts)

    @property
    def fell(self) -> bool:
        """Whether the terms' sum fell. A single term may rise even under the plain sum: the
        box loss of a RoI head is averaged over all regions, and few are positive at first."""
        return bool(self.terms) and self.total[1] < self.total[0]

    @property
    def rose(self) -> list[str]:
        """The terms that did not fall."""
        return [t for t in self.terms if not self.means(t)[1] < self.means(t)[0]]

    @property
    def good(self) -> bool:
        """Whether it ran to its end, finite, with falling losses."""
        return self.finite and self.fell and not self.error


def run_short_runs(short: ShortRuns) -> list[ShortRun]:
    """Train what is not trained yet; write ``short_runs.md``, ``.json`` and ``.png``.

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
    runs = []
    with tqdm(plans.items(), desc="trainings", unit="run") as bar:
        for (detector, combiner), cfg in bar:
            bar.set_postfix_str(f"{detector} {combiner}")
            runs.append(_trained(short, detector, combiner, cfg))
            if not runs[-1].good:
                tqdm.write(f"{detector} {combiner}: {_verdict(runs[-1])}")
    _write(short, runs)
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
    if not short.fresh:
        for key, cfg in plans.items():
            kept = _kept(short, *key)
            if kept is not None and kept["settings"] != _digest(cfg):
                raise LossweaveError(
                    f"{_folder(short, *key)} holds a training with other settings; start anew "
                    "with --fresh, or choose another --work-dir"
                )
    return plans


def _config(short: ShortRuns, detector: str, combiner: str) -> Config:
    options = {}
    if short.boundary is not None and issubclass(combiner_class(combiner), GradientCombiner):
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


def judged(
    folder: Path, detector: str, combiner: str, sound: bool, seconds: float, error: str = ""
) -> ShortRun:
    """The record of what a training logged.

    Args:
        folder: the training's work directory.
        detector: its name.
        combiner: the combiner's name.
        sound: whether the weights at the end are finite.
        seconds: what it took.
        error: the message it ended with.
    """
    try:
        found = read_run(folder, combiner)
    except LossweaveError:
        return ShortRun(detector, combiner, {}, False, seconds, error or "nothing was logged")
    terms = {name: list(history.value.values) for name, history in found.terms.items()}
    series = [*terms.values(), *(list(h.weight.values) for h in found.terms.values())]
    finite = sound and all(math.isfinite(value) for values in series for value in values)
    return ShortRun(detector, combiner, terms, finite, seconds, error)


# ------------------------------------------------------------------------------ writing


def _verdict(run: ShortRun) -> str:
    if run.error:
        return run.error
    if not run.finite:
        return "not finite"
    return "fell" if run.fell else "did not fall"


def summary(runs: Sequence[ShortRun]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the table."""
    terms = list(dict.fromkeys(term for run in runs for term in run.terms))
    header = ["detector", "combiner", *terms, "sum of terms", "finite", "fell", "seconds"]
    rows = []
    for run in runs:
        cells = ["-"] * len(terms)
        for place, term in enumerate(terms):
            if term in run.terms:
                cells[place] = "{:.3f} → {:.3f}".format(*run.means(term))
        total = "{:.3f} → {:.3f}".format(*run.total) if run.terms else "-"
        said = "yes" if run.fell else "NO"
        rows.append(
            [run.detector, run.combiner, *cells, total, "yes" if run.finite else "NO",
             said if not run.error else "FAILED", f"{run.seconds:.0f}"]
        )  # fmt: skip
    return header, rows


def _rising(runs: Sequence[ShortRun]) -> list[str]:
    """A sentence per detector of which a single term rises."""
    sentences = []
    for detector in dict.fromkeys(run.detector for run in runs):
        found: dict[str, list[str]] = {}
        for run in runs:
            for term in run.rose if run.detector == detector else []:
                found.setdefault(term, []).append(run.combiner)
        count = sum(run.detector == detector for run in runs)
        for term, names in found.items():
            who = "every combiner" if len(names) == count else ", ".join(names)
            sentences.append(f"On {detector}, {term} alone rises under {who}.")
    return sentences


def _write(short: ShortRuns, runs: Sequence[ShortRun]) -> None:
    folder = Path(short.work_dir)
    folder.mkdir(parents=True, exist_ok=True)
    table = summary(runs)
    bad = [run for run in runs if not run.good]
    verdict = (
        f"All {len(runs)} trainings are finite, and the sum of the terms falls in each."
        if not bad
        else f"{len(bad)} of {len(runs)} trainings are not as they should be: "
        + "; ".join(f"{run.detector} {run.combiner} ({_verdict(run)})" for run in bad)
        + "."
    )
    verdict += "".join(f" {sentence}" for sentence in _rising(runs))
    curves: dict[str, Mapping[str, Mapping[str, Sequence[float]]]] = {}
    for run in runs:
        if run.terms:
            curves[run.detector] = {**curves.get(run.detector, {}), run.combiner: run.terms}
    if curves:
        plot_short_runs(curves, folder / "short_runs.png")
    facts = provenance(short.command, settings=asdict(short))
    results = [{**asdict(run), "good": run.good, "fell": run.fell} for run in runs]
    (folder / "short_runs.json").write_text(json.dumps({**facts, "runs": results}))
    boundary = (
        f"`boundary={short.boundary!r}`" if short.boundary else "each combiner's own boundary"
    )
    text = f"""# {short.iterations} iterations of every combiner

{verdict}

```bash
{short.command}
```

The demo's detectors on the demo data, {short.batch_size} pictures an iteration, seed {short.seed},
{boundary}, learning rate schedules shortened to {short.iterations} iterations. Per term: the mean
of its raw loss over the first and over the last fifth of the iterations. This shows that a
training runs, not which one is better. Measured {facts["date"]} on {machine_line()}.

{markdown_table(*table)}

![The terms over the iterations, a line per combiner](short_runs.png)
"""
    (folder / "short_runs.md").write_text(text)
    print(f"\n{text_table(*table)}\n\n{verdict}\n\nwritten: {folder / 'short_runs.md'}")
