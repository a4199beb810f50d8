"""Several combiners, several seeds: paired differences to the best sum, with intervals.

Every training is a ``tools/train.py`` of its own, so it can be repeated by hand; the methods
of one seed share initial weights and data order. The sums among the methods are the sweep
over its weights: the best of them on the validation split is the tuned sum, and what is
reported is measured on the test split.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from lossweave.errors import LossweaveError
from lossweave.machine import machine_line, provenance
from lossweave.studies.demo import DEFAULT_CONFIG
from lossweave.studies.paired import paired_interval
from lossweave.studies.plots import plot_scores
from lossweave.studies.tables import markdown_table, text_table
from lossweave.studies.trainings import Method, Score, Trial, run_all, train_and_test, write_json

__all__ = ["Comparison", "run_comparison", "summarize"]


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
    trials = [
        Trial(
            method,
            seed,
            comparison.config,
            comparison.work_dir,
            comparison.options,
            comparison.jobs,
        )
        for seed in comparison.seeds
        for method in comparison.methods
    ]
    scores = run_all([partial(train_and_test, t) for t in trials], comparison.jobs, "trainings")
    _write(comparison, scores)
    return scores


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
    facts = provenance(
        comparison.command,
        config=comparison.config,
        seeds=comparison.seeds,
        options=comparison.options,
    )
    record = dict(**facts, tuned=tuned, summary=rows, scores=[s.__dict__ for s in scores])
    write_json(folder / "comparison.json", record)
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
