"""The report of a comparison: table, verdict, the sweep over learning rates, one picture."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from math import isfinite, isinf, isnan
from pathlib import Path
from typing import Any

from lossweave.studies.compare.findings import Comparison, ComparisonFindings
from lossweave.studies.ledger.facts import places_text
from lossweave.studies.report.plots import plot_differences, plot_scores
from lossweave.studies.report.tables import counted, markdown_table, number, probability, text_table
from lossweave.studies.runs.method import Score
from lossweave.utils.files import write_json
from lossweave.utils.provenance import machine_line

__all__ = ["comparison_text", "edges_text", "together_text", "verdict", "write_comparison"]


def write_comparison(
    comparison: Comparison, found: ComparisonFindings, facts: Mapping[str, Any]
) -> None:
    """Write ``comparison.json``, ``comparison.md`` and ``scores.png``, and print the table.

    Args:
        comparison: what was asked for; its ``work_dir`` is written to.
        found: what came of it.
        facts: where the numbers come from, as
            :func:`~lossweave.utils.provenance.provenance` has it.
    """
    folder = Path(comparison.work_dir)
    folder.mkdir(parents=True, exist_ok=True)
    plot_scores(found.compared, found.tuned, folder / "scores.png")
    plot_differences(found.differences, found.many, found.tuned, folder / "differences.png")
    record = dict(
        **facts,
        tuned=found.tuned,
        summary=found.rows,
        together=dict(asdict(found.many), smallest=found.many.smallest),
        scores=[score.__dict__ for score in found.scores],
    )
    if found.chosen:
        record |= dict(
            rates=list(comparison.rates),
            chosen_rates=found.chosen,
            rates_at_edge=found.edges,
            sum_weights_at_edge=found.weights_at_edge,
        )
    write_json(folder / "comparison.json", record)
    (folder / "comparison.md").write_text(comparison_text(comparison, found, facts))
    print(f"\n{text_table(*_table(found))}\n\n{verdict(found.tuned, found.rows)}")
    if found.chosen:
        print(edges_text(comparison, found))
    print(f"\n{folder / 'comparison.md'}")


def comparison_text(
    comparison: Comparison, found: ComparisonFindings, facts: Mapping[str, Any]
) -> str:
    """The report, in Markdown; arguments as :func:`write_comparison`."""
    count = len(comparison.seeds)
    title = f"{counted(len(found.rows), 'method')}, {counted(count, 'seed')}"
    fairness = "No method but the sum was tuned."
    if found.chosen:
        title += ", a learning rate for each"
        fairness = "The column 'tuned' says what was chosen with one seed, and from how many."
    code = f"Code: {facts['code']}. " if "code" in facts else ""
    return f"""# {title}

{together_text(found)}
{verdict(found.tuned, found.rows)}

{markdown_table(*_table(found))}

Detector: `{comparison.config}`. Within a seed all methods share initial weights and the order of
the data. The tuned sum is the one with the best mean AP on the validation split; AP, AP50 and the
differences are those of the test split, in COCO's definition. The differences are paired by seed,
with Student's 95 % interval, which is wide for {counted(count, "seed")} and not corrected for the
number of methods{_pooled_text(found)}.
{fairness}{_alike_text(found)}{_taken_text(found)}

![Differences to the tuned sum, with intervals](differences.png)

![AP on the test split, a dot per seed](scores.png)

{_sweep_text(comparison, found)}{_places_text(found)}{_commands_text(found)}\
Command: `{comparison.command}`

Date: {facts["date"]}. {code}Machine: {machine_line(facts["machine"])}. Every number is in \
`comparison.json`.
"""


def verdict(tuned: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Which methods are better and worse than the tuned sum, beyond the interval.

    Args:
        tuned: the tuned sum's label.
        rows: of :func:`~lossweave.studies.compare.findings.summarize`.

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
    single = [row["method"] for row in others if isinf(row["half_width"])]
    alone = [row["method"] for row in others if isnan(row["difference"])]
    single = [method for method in single if method not in alone]
    if single:
        text += f" With one seed, so without an interval: {', '.join(single)}."
    if alone:
        text += f" Without a pair of one code and machine: {', '.join(alone)}."
    return text


def together_text(found: ComparisonFindings) -> str:
    """The verdict over all methods, in one sentence, with the smallest effect.

    Args:
        found: of the comparison.
    """
    better, worse = (found.told(sign) for sign in (1, -1))
    pairs = sorted(len(d) for d in found.differences.values() if d)
    if not pairs or not isfinite(found.many.sd):
        return "Nothing can be said about all methods together: no method has two pairs of seeds."
    seen = (
        f"; a method with {counted(pairs[len(pairs) // 2], 'seed')} shows an effect of "
        f"{found.many.smallest:.3f} AP with a probability of 0.8."
    )
    text = f"better than the tuned sum ({found.tuned}): {', '.join(better) or 'none'}"
    text += f"; worse: {', '.join(worse) or 'none'}"
    return f"Of {len(pairs)} methods, corrected for their number, {text}{seen}"


def _pooled_text(found: ComparisonFindings) -> str:
    if not isfinite(found.many.sd):
        return ""
    return f"""; 'pooled' is the interval with one spread for all methods, pooled over
them ({found.many.sd:.4f} a difference, {found.many.df} degrees of freedom), and p the
probability of so large a difference without any effect, by that spread and corrected for the
number of methods after Holm (how and why: `docs/results/protocol.md`)"""


def _alike_text(found: ComparisonFindings) -> str:
    if not found.alike:
        return ""
    names = ", ".join(f"{one} (as {other})" for one, other in found.alike.items())
    return f"""
Ended to the last digit as another method, so the same training under two names here: {names}."""


def _commands_text(found: ComparisonFindings) -> str:
    """Of every method the command that repeats its first training."""
    commands: dict[str, str] = {}
    for score in found.compared:
        if command := score.details.get("command"):
            commands.setdefault(score.method, command)
    if not commands:
        return ""
    lines = "\n".join(commands.values())
    return f"""## A row again

The first seed of every row, a command each; for another seed `randomness.seed` changes.

```
{lines}
```

"""


def edges_text(comparison: Comparison, found: ComparisonFindings) -> str:
    """Where the sweeps over learning rates and over the sum's weights were too narrow.

    Args:
        comparison: what was trained.
        found: what came of it, with learning rates.
    """
    at = ", ".join(
        f"{label} ({found.chosen[label]:g}, the {edge})" for label, edge in found.edges.items()
    )
    text = (
        f"At the edge of the sweep, beyond which a better rate may lie: {at}. Widen `--rates`."
        if found.edges
        else "No chosen rate lies at the edge of the sweep."
    )
    if found.weights_at_edge:
        text += (
            f" The weights of {found.tuned} lie at the edge of those tried: add a `Sum` beyond "
            "them."
        )
    elif found.weights_at_edge is False:
        text += " The tuned sum's weights lie between others that were tried."
    elif sum(method.combiner == "Sum" for method in comparison.methods) == 1:
        text += " One weighting of the sum was tried only."
    return text


def _sweep_text(comparison: Comparison, found: ComparisonFindings) -> str:
    if not found.chosen:
        return ""
    first = comparison.seeds[0]
    rates = sorted(comparison.rates)
    # Of a training from several places the first result is shown.
    sweep = {(s.method, s.rate): s for s in reversed(found.scores) if s.seed == first}
    cells = [
        [label, *(_swept(sweep.get((label, rate)), rate == best) for rate in rates)]
        for label, best in found.chosen.items()
    ]
    return f"""## Learning rates

AP on the validation split with seed {first}, at every learning rate. The best one of a method, in
bold, is the one at which its other seeds were trained.

{markdown_table(["method", *(f"{rate:g}" for rate in rates)], cells)}

{edges_text(comparison, found)}

"""


def _swept(score: Score | None, best: bool) -> str:
    if score is None:
        return "-"
    if "diverged" in score.details:
        return "diverged"
    return f"**{score.val:.3f}**" if best else f"{score.val:.3f}"


def _table(found: ComparisonFindings) -> tuple[list[str], list[list[str]]]:
    header = ["method", "seeds", "val AP", "test AP", "sd", "test AP50"]
    header += ["minus tuned sum (95 %)", "pooled", "p (Holm)", "tuned"]
    cells = [
        [
            f"{row['method']}{' (tuned sum)' if row['method'] == found.tuned else ''}",
            str(row["seeds"]),
            *(number(row[key]) for key in ("val", "test", "sd", "test50")),
            *(["", "", ""] if row["method"] == found.tuned else _told(row, found)),
            found.tried[row["method"]],
        ]
        for row in found.rows
    ]
    if any(row["rate"] is not None for row in found.rows):
        header.insert(1, "rate")
        for row, line in zip(found.rows, cells, strict=True):
            line.insert(1, f"{row['rate']:g}")
    return header, cells


def _taken_text(found: ComparisonFindings) -> str:
    """Which results were not trained for this comparison."""
    taken: dict[str, int] = {}
    for score in found.scores:
        if source := score.details.get("taken_from"):
            taken[source] = taken.get(source, 0) + 1
    return "".join(
        f"\n{count} of the {len(found.scores)} results are taken from {source}."
        for source, count in taken.items()
    )


def _places_text(found: ComparisonFindings) -> str:
    """What was trained where, if that is more than one place, and which pairs are left out."""
    text = places_text((s.place, f"{s.method}, seed {s.seed}") for s in found.scores)
    if not text:
        return ""
    left_out = [
        f"{row['method']}, {'seeds' if len(row['unpaired']) > 1 else 'seed'} "
        + " ".join(map(str, row["unpaired"]))
        for row in found.rows
        if row["unpaired"]
    ]
    pairs = (
        f"Left out of the differences, since the tuned sum's result is of another place: "
        f"{'; '.join(left_out)}."
        if left_out
        else "Every difference is of two results of one place."
    )
    return f"""## Trained by several states of the code, or on several machines

{text}

{pairs}

"""


def _told(row: Mapping[str, Any], found: ComparisonFindings) -> list[str]:
    half, p = found.many.half_widths[row["method"]], found.many.p[row["method"]]
    return [_interval(row), f"± {half:.3f}" if isfinite(half) else "-", probability(p)]


def _interval(row: Mapping[str, Any]) -> str:
    if isnan(row["difference"]):
        return "no pair"
    if not isfinite(row["half_width"]):
        return f"{row['difference']:+.3f} (one seed)"
    return f"{row['difference']:+.3f} ± {row['half_width']:.3f}"
