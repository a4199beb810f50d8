"""Several combiners, several seeds: paired differences to the best sum, with intervals.

Every training is a ``tools/train.py`` of its own, so it can be repeated by hand; the methods
of one seed share initial weights and data order. The sums among the methods are the sweep
over its weights: the best of them on the validation split is the tuned sum, and what is
reported is measured on the test split. With learning rates to choose from, every method, the
sums included, has the rate that is best for it on the validation split.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from itertools import product
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from lossweave.errors import LossweaveError
from lossweave.studies.compare.rates import (
    at_rates,
    best_rates,
    check_rates,
    rate_edges,
    weights_at_edge,
)
from lossweave.studies.demo.study import DEFAULT_CONFIG
from lossweave.studies.report.paired import paired_interval
from lossweave.studies.report.plots import plot_scores
from lossweave.studies.report.tables import counted, markdown_table, number, text_table
from lossweave.studies.runs.training import (
    Method,
    Score,
    Trial,
    run_all,
    serial_loading,
    train_and_test,
    write_json,
)
from lossweave.utils.provenance import machine_line, provenance

__all__ = [
    "Comparison",
    "comparison_text",
    "edges_text",
    "run_comparison",
    "summarize",
    "verdict",
]


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
        rates: learning rates, trained in this order with the first seed; every method's further
            seeds are trained at its best one. Without any, all have the config's.
    """

    methods: tuple[Method, ...]
    seeds: tuple[int, ...] = (0, 1, 2)
    config: str = DEFAULT_CONFIG
    work_dir: str = "work_dirs/compare"
    jobs: int = 1
    options: tuple[str, ...] = ()
    command: str = "python tools/compare.py"
    rates: tuple[float, ...] = ()


def run_comparison(comparison: Comparison) -> list[Score]:
    """Train what is not trained yet, evaluate, and write table, plot and record.

    Returns:
        One score per method and seed; of the first seed one per rate, where there are rates.

    Raises:
        LossweaveError: wrong input, or a training that failed (its log is named).
    """
    if not any(method.combiner == "Sum" for method in comparison.methods):
        raise LossweaveError("a comparison needs at least one Sum among its methods")
    if len(set(comparison.methods)) < len(comparison.methods):
        raise LossweaveError("a method is named twice")
    if not comparison.seeds or comparison.jobs < 1:
        raise LossweaveError("a comparison needs a seed and at least one job at a time")
    if comparison.rates:
        check_rates(comparison.rates, comparison.config, comparison.options)
    scores = _train(comparison)
    _write(comparison, scores)
    return scores


def _train(comparison: Comparison) -> list[Score]:
    options = (*serial_loading(comparison.config), *comparison.options)

    def run(asked: Sequence[tuple[Method, int, float | None]], what: str) -> list[Score]:
        work = [
            partial(
                train_and_test,
                Trial(
                    method, seed, comparison.config, comparison.work_dir,
                    options, comparison.jobs, rate,
                ),
            )
            for method, seed, rate in asked
        ]  # fmt: skip
        return run_all(work, comparison.jobs, what)

    if not comparison.rates:
        every = product(comparison.seeds, comparison.methods)
        return run([(method, seed, None) for seed, method in every], "trainings")
    first, *others = comparison.seeds
    every_rate = product(comparison.rates, comparison.methods)
    sweep = run([(method, first, rate) for rate, method in every_rate], "sweep over rates")
    chosen = best_rates(sweep)
    every = product(others, comparison.methods)
    rest = run([(method, seed, chosen[method.label]) for seed, method in every], "further seeds")
    return [*sweep, *rest]


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
                rate=next(iter(found.values())).rate,
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


def comparison_text(comparison: Comparison, scores: Sequence[Score]) -> str:
    """The report, in Markdown.

    Args:
        comparison: what was trained.
        scores: what came of it, as :func:`run_comparison` returns it.
    """
    chosen = best_rates(scores)
    tuned, rows = summarize(at_rates(scores, chosen) if chosen else scores)
    count = len(comparison.seeds)
    title = f"{counted(len(rows), 'method')}, {counted(count, 'seed')}"
    fairness = "No method but the sum was tuned."
    if chosen:
        title += ", a learning rate for each"
        fairness = (
            "Every method has a learning rate of its own, chosen with one seed; "
            "its other settings were\nnot tuned."
        )
    return f"""# {title}

{verdict(tuned, rows)}

{markdown_table(*_table(tuned, rows))}

Detector: `{comparison.config}`. Within a seed all methods share initial weights and the order of
the data. The tuned sum is the one with the best mean AP on the validation split; AP, AP50 and the
differences are those of the test split, in COCO's definition. The differences are paired by seed,
with Student's 95 % interval, which is wide for {counted(count, "seed")} and not corrected for the
number of methods.
{fairness}

![AP on the test split, a dot per seed](scores.png)

{_sweep_text(comparison, scores, chosen, tuned) if chosen else ""}Command: `{comparison.command}`

Date: {date.today().isoformat()}. Machine: {machine_line()}. Every number is in `comparison.json`.
"""


def verdict(tuned: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Which methods are better and worse than the tuned sum, beyond the interval.

    Args:
        tuned: the tuned sum's label.
        rows: of :func:`summarize`.

    Example:
        >>> verdict("Sum", [dict(method="DWA", difference=-0.2, half_width=0.1)])
        'Nothing beat the tuned sum beyond its interval. Worse, beyond its interval: DWA.'
    """
    others = [row for row in rows if row["method"] != tuned]
    better = [row["method"] for row in others if row["difference"] > row["half_width"]]
    worse = [row["method"] for row in others if -row["difference"] > row["half_width"]]
    text = (
        f"Better than the tuned sum, beyond its interval: {', '.join(better)}."
        if better
        else "Nothing beat the tuned sum beyond its interval."
    )
    if worse:
        text += f" Worse, beyond its interval: {', '.join(worse)}."
    single = [row["method"] for row in others if not isfinite(row["half_width"])]
    return f"{text} With one seed, so without an interval: {', '.join(single)}." if single else text


def edges_text(comparison: Comparison, scores: Sequence[Score], tuned: str) -> str:
    """Where the sweeps over learning rates and over the sum's weights were too narrow.

    Args:
        comparison: what was trained.
        scores: what came of it, with learning rates.
        tuned: the tuned sum's label.
    """
    chosen, edges = best_rates(scores), rate_edges(scores)
    found = ", ".join(f"{label} ({chosen[label]:g}, the {edge})" for label, edge in edges.items())
    text = (
        f"At the edge of the sweep, beyond which a better rate may lie: {found}. Widen `--rates`."
        if edges
        else "No chosen rate lies at the edge of the sweep."
    )
    at_edge = weights_at_edge(comparison.methods, tuned)
    if at_edge:
        text += f" The weights of {tuned} lie at the edge of those tried: add a `Sum` beyond them."
    elif at_edge is False:
        text += " The tuned sum's weights lie between others that were tried."
    elif sum(method.combiner == "Sum" for method in comparison.methods) == 1:
        text += " One weighting of the sum was tried only."
    return text


def _sweep_text(
    comparison: Comparison, scores: Sequence[Score], chosen: Mapping[str, float], tuned: str
) -> str:
    first = comparison.seeds[0]
    rates = sorted(comparison.rates)
    sweep = {(s.method, s.rate): s for s in scores if s.seed == first}
    cells = [
        [label, *(_swept(sweep.get((label, rate)), rate == best) for rate in rates)]
        for label, best in chosen.items()
    ]
    return f"""## Learning rates

AP on the validation split with seed {first}, at every learning rate. The best one of a method, in
bold, is the one at which its other seeds were trained.

{markdown_table(["method", *(f"{rate:g}" for rate in rates)], cells)}

{edges_text(comparison, scores, tuned)}

"""


def _swept(score: Score | None, best: bool) -> str:
    if score is None:
        return "-"
    if "diverged" in score.details:
        return "diverged"
    return f"**{score.val:.3f}**" if best else f"{score.val:.3f}"


def _table(tuned: str, rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    header = ["method", "seeds", "val AP", "test AP", "sd", "test AP50", "minus tuned sum (95 %)"]
    cells = [
        [
            f"{row['method']}{' (tuned sum)' if row['method'] == tuned else ''}",
            str(row["seeds"]),
            *(number(row[key]) for key in ("val", "test", "sd", "test50")),
            "" if row["method"] == tuned else _interval(row),
        ]
        for row in rows
    ]
    if any(row["rate"] is not None for row in rows):
        header.insert(1, "rate")
        for row, line in zip(rows, cells, strict=True):
            line.insert(1, f"{row['rate']:g}")
    return header, cells


def _write(comparison: Comparison, scores: Sequence[Score]) -> None:
    folder = Path(comparison.work_dir)
    chosen = best_rates(scores)
    compared = at_rates(scores, chosen) if chosen else scores
    tuned, rows = summarize(compared)
    plot_scores(compared, tuned, folder / "scores.png")
    record = provenance(
        comparison.command,
        config=comparison.config,
        seeds=comparison.seeds,
        options=comparison.options,
    )
    record |= dict(tuned=tuned, summary=rows, scores=[s.__dict__ for s in scores])
    if chosen:
        record |= dict(
            rates=list(comparison.rates),
            chosen_rates=chosen,
            rates_at_edge=rate_edges(scores),
            sum_weights_at_edge=weights_at_edge(comparison.methods, tuned),
        )
    write_json(folder / "comparison.json", record)
    (folder / "comparison.md").write_text(comparison_text(comparison, scores))
    print(f"\n{text_table(*_table(tuned, rows))}\n\n{verdict(tuned, rows)}")
    if chosen:
        print(edges_text(comparison, scores, tuned))
    print(f"\n{folder / 'comparison.md'}")


def _interval(row: Mapping[str, Any]) -> str:
    if not isfinite(row["half_width"]):
        return f"{row['difference']:+.3f} (one seed)"
    return f"{row['difference']:+.3f} ± {row['half_width']:.3f}"
