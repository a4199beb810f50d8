"""Several combiners, several seeds: paired differences to the best sum, with intervals.

Every training is a ``tools/train.py`` of its own, so it can be repeated by hand; the methods
of one seed share initial weights and data order. The sums among the methods are the sweep
over its weights: the best of them on the validation split is the tuned sum, and what is
reported is measured on the test split.
"""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats
from tqdm import tqdm

from lossweave.combiners import combiner_class
from lossweave.errors import LossweaveError
from lossweave.paths import resolve_config, tools_root
from lossweave.studies.demo import DEFAULT_CONFIG
from lossweave.studies.machine import machine, machine_line, versions
from lossweave.studies.plots import plot_scores
from lossweave.studies.record import read_run
from lossweave.studies.tables import markdown_table, text_table

__all__ = ["Comparison", "Method", "Score", "paired_interval", "run_comparison", "summarize"]

_AP, _AP50 = "coco/bbox_mAP", "coco/bbox_mAP_50"


@dataclass(frozen=True)
class Method:
    """A combiner with its arguments, as typed: ``'Sum weights=[1,2]'``.

    Raises:
        LossweaveError: an unknown combiner.

    Example:
        >>> method = Method.parse("Sum weights=[1,2]")
        >>> method.label, method.options, method.folder
        ('Sum weights=[1,2]', ('weights=[1,2]',), 'Sum_weights-1-2')
    """

    combiner: str
    options: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "Method":
        """A method from its words."""
        words = text.split()
        if not words:
            raise LossweaveError("a method is a combiner's name and its options, not ''")
        combiner_class(words[0])
        return cls(words[0], tuple(words[1:]))

    @property
    def label(self) -> str:
        """As it was typed."""
        return " ".join([self.combiner, *self.options])

    @property
    def folder(self) -> str:
        """A name for a folder."""
        kept = "".join(c if c.isalnum() or c in "._" else "-" for c in "_".join(self.options))
        parts = [part for part in kept.split("-") if part]
        return "_".join(part for part in (self.combiner, "-".join(parts)) if part)


@dataclass(frozen=True)
class Comparison:
    """What to train.

    Args:
        methods: the methods; at least one of them a ``Sum``.
        seeds: one training per method and seed.
        config: an iteration-based config with COCO evaluation on two splits.
        work_dir: where everything is written; finished trainings are kept.
        jobs: trainings at a time, each with an equal share of the cores.
        options: further ``--cfg-options``, the same for all.
        command: the command that asked for it, for the report.
    """

    methods: tuple[Method, ...]
    seeds: tuple[int, ...] = (0, 1, 2)
    config: str = DEFAULT_CONFIG
    work_dir: str = "work_dirs/compare"
    jobs: int = 1
    options: tuple[str, ...] = ()
    command: str = "python tools/compare.py"


@dataclass(frozen=True)
class Score:
    """One finished training.

    Args:
        method: the method's label.
        seed: its seed.
        val: COCO AP on the validation split.
        test: COCO AP on the test split.
        test50: AP at IoU .50 on the test split.
        details: commands, weights, seconds per iteration.
    """

    method: str
    seed: int
    val: float
    test: float
    test50: float
    details: dict[str, Any] = field(default_factory=dict)


def run_comparison(comparison: Comparison) -> list[Score]:
    """Train what is not trained yet, evaluate, and write table, plot and record.

    Returns:
        One score per method and seed.

    Raises:
        LossweaveError: wrong input, or a training that failed (its log is named).
    """
    if not any(method.combiner == "Sum" for method in comparison.methods):
        raise LossweaveError("a comparison needs at least one Sum among its methods")
    if len(set(comparison.methods)) < len(comparison.methods):
        raise LossweaveError("a method is named twice")
    if not comparison.seeds or comparison.jobs < 1:
        raise LossweaveError("a comparison needs a seed and at least one job at a time")
    trials = [(method, seed) for seed in comparison.seeds for method in comparison.methods]
    with ThreadPoolExecutor(comparison.jobs) as pool:
        running = [pool.submit(_trial, comparison, *trial) for trial in trials]
        try:
            for done in tqdm(running, desc="trainings", unit="run"):
                done.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    scores = [job.result() for job in running]
    _write(comparison, scores)
    return scores


def paired_interval(differences: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Mean and half-width of Student's interval for paired differences.

    Args:
        differences: one per seed.
        level: the interval's coverage.

    Returns:
        The mean, and the half-width (infinite for a single seed).

    Example:
        >>> mean, half = paired_interval([0.01, 0.02, 0.03])
        >>> round(mean, 3), round(half, 4)
        (0.02, 0.0248)
    """
    values = np.asarray(differences, dtype=float)
    if len(values) < 2:
        return float(values.mean()), float("inf")
    quantile = stats.t.ppf(0.5 + level / 2, len(values) - 1)
    return float(values.mean()), float(quantile * values.std(ddof=1) / np.sqrt(len(values)))


def summarize(scores: Sequence[Score]) -> tuple[str, list[dict[str, Any]]]:
    """The tuned sum's label, and per method what the seeds say about it.

    The tuned sum is the ``Sum`` with the best mean AP on the VALIDATION split; differences to
    it are on the TEST split, paired by seed.
    """
    by_method: dict[str, dict[int, Score]] = {}
    for score in scores:
        by_method.setdefault(score.method, {})[score.seed] = score
    sums = [label for label in by_method if label.split()[0] == "Sum"]
    tuned = max(sums, key=lambda label: np.mean([s.val for s in by_method[label].values()]))
    rows = []
    for label, found in by_method.items():
        seeds = sorted(set(found) & set(by_method[tuned]))
        mean, half = paired_interval([found[s].test - by_method[tuned][s].test for s in seeds])
        tests = [s.test for s in found.values()]
        rows.append(
            dict(
                method=label,
                seeds=len(found),
                val=float(np.mean([s.val for s in found.values()])),
                test=float(np.mean(tests)),
                sd=float(np.std(tests, ddof=1)) if len(tests) > 1 else float("nan"),
                test50=float(np.mean([s.test50 for s in found.values()])),
                difference=mean,
                half_width=half,
            )
        )
    return tuned, rows


def _trial(comparison: Comparison, method: Method, seed: int) -> Score:
    folder = Path(comparison.work_dir) / f"{method.folder}_seed{seed}"
    finished = folder / "score.json"
    if finished.is_file():
        return Score(**json.loads(finished.read_text()))
    folder.mkdir(parents=True, exist_ok=True)
    config, log = resolve_config(comparison.config), folder / "log.txt"
    options = [f"randomness.seed={seed}", *comparison.options]
    train = [
        *("tools/train.py", config, "--work-dir", str(folder), "--exact-resume"),
        *("--combiner", method.combiner),
        *(["--combiner-options", *method.options] if method.options else []),
        *("--cfg-options", *options),
    ]
    resume = ["--resume"] if (folder / "last_checkpoint").is_file() else []
    _call([*train[:4], *resume, *train[4:]], log, comparison.jobs)
    run = read_run(folder, method.combiner)
    checkpoint = (folder / "last_checkpoint").read_text().strip()
    test = ["tools/test.py", config, checkpoint, "--work-dir", str(folder / "test")]
    _call([*test, "--cfg-options", *comparison.options], log, comparison.jobs)
    metrics = _test_metrics(folder / "test")
    score = Score(
        method=method.label,
        seed=seed,
        val=run.metrics.get(_AP, 0.0),
        test=metrics[_AP],
        test50=metrics[_AP50],
        details=dict(
            command=shlex.join(["python", *train]).replace(config, comparison.config),
            seconds_per_iteration=run.seconds_per_iteration,
            weights={name: term.weight.last for name, term in run.terms.items()},
        ),
    )
    finished.write_text(json.dumps(score.__dict__, indent=1))
    return score


def _call(words: Sequence[str], log: Path, jobs: int) -> None:
    threads = max(1, (os.cpu_count() or 1) // jobs)
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "PASSIVE",  # waiting threads must not spin on shared cores
    }
    tool = tools_root() / Path(words[0]).name
    with open(log, "a") as file:
        done = subprocess.run(
            [sys.executable, str(tool), *[w for w in words[1:] if w]],
            stdout=file, stderr=subprocess.STDOUT, env=environment,
        )  # fmt: skip
    if done.returncode:
        last = [line for line in log.read_text().splitlines() if line.strip()][-1:]
        raise LossweaveError(f"a training failed, see {log}: {' '.join(last)[:200]}")


def _test_metrics(folder: Path) -> dict[str, float]:
    """What the newest test run wrote; a detector that finds nothing has no AP, i.e. 0."""
    files = sorted(folder.glob("*/*.json"), key=lambda path: path.stat().st_mtime)
    if not files:
        raise LossweaveError(f"{folder} holds no test metrics")
    return {_AP: 0.0, _AP50: 0.0, **json.loads(files[-1].read_text())}


def _write(comparison: Comparison, scores: Sequence[Score]) -> None:
    folder = Path(comparison.work_dir)
    tuned, rows = summarize(scores)
    header = ["method", "seeds", "val AP", "test AP", "sd", "test AP50", "minus tuned sum (95 %)"]
    cells = [
        [
            f"{row['method']}{' (tuned sum)' if row['method'] == tuned else ''}",
            str(row["seeds"]),
            *(f"{row[key]:.3f}" for key in ("val", "test", "sd", "test50")),
            "" if row["method"] == tuned else _interval(row),
        ]
        for row in rows
    ]
    better = [
        r["method"] for r in rows if r["method"] != tuned and r["difference"] > r["half_width"]
    ]
    worse = [
        r["method"] for r in rows if r["method"] != tuned and -r["difference"] > r["half_width"]
    ]
    verdict = (
        f"Better than the tuned sum, beyond its interval: {', '.join(better)}."
        if better
        else "Nothing beat the tuned sum beyond its interval."
    )
    if worse:
        verdict += f" Worse, beyond its interval: {', '.join(worse)}."
    plot_scores(scores, tuned, folder / "scores.png")
    facts = dict(
        config=comparison.config,
        seeds=list(comparison.seeds),
        command=comparison.command,
        options=list(comparison.options),
        date=date.today().isoformat(),
        machine=machine(),
        versions=versions(),
    )
    record = dict(**facts, tuned=tuned, summary=rows, scores=[s.__dict__ for s in scores])
    (folder / "comparison.json").write_text(json.dumps(record, indent=1))
    text = f"""# {len(rows)} methods, {len(comparison.seeds)} seeds

{verdict}

{markdown_table(header, cells)}

Detector: `{comparison.config}`. Within a seed all methods share initial weights and the order of
the data. The tuned sum is the one with the best mean AP on the validation split; AP, AP50 and the
differences are those of the test split, in COCO's definition. The differences are paired by seed,
with Student's 95 % interval, which {len(comparison.seeds)} seeds leave wide, and which is not
corrected for the number of methods. No method but the sum was tuned.

![AP on the test split, a dot per seed](scores.png)

Command: `{comparison.command}`

Date: {facts["date"]}. Machine: {machine_line()}. Every number is in `comparison.json`.
"""
    (folder / "comparison.md").write_text(text)
    print(f"\n{text_table(header, cells)}\n\n{verdict}\n\n{folder / 'comparison.md'}")


def _interval(row: dict[str, Any]) -> str:
    return f"{row['difference']:+.3f} ± {row['half_width']:.3f}"
