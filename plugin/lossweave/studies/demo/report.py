"""The demo's report, in Markdown, and the table that is printed."""

from collections.abc import Mapping, Sequence
from typing import Any

from lossweave.studies.report.tables import markdown_table, text_table
from lossweave.studies.runs.record import RunRecord

__all__ = ["comparison_rows", "comparison_table", "write_report"]


def comparison_rows(runs: Sequence[RunRecord]) -> tuple[list[str], list[list[str]]]:
    """Header and rows: combiner, AP, AP50, seconds per iteration, each term and its weight."""
    names = list(dict.fromkeys(term for run in runs for term in run.terms))
    header = ["combiner", "AP", "AP50", "s / iteration"]
    header += [text for name in names for text in (name, f"weight {name}")]
    rows = []
    for run in runs:
        row = [run.combiner, _fixed(run.ap), _fixed(run.ap50), _fixed(run.seconds_per_iteration)]
        for name in names:
            term = run.terms.get(name)
            row += [_fixed(term.value.last), _fixed(term.weight.last)] if term else ["-", "-"]
        rows.append(row)
    return header, rows


def comparison_table(runs: Sequence[RunRecord]) -> str:
    """The comparison for the terminal.

    Example:
        >>> print(comparison_table([RunRecord("Sum", 9, {}, {"coco/bbox_mAP": 0.5}, 0.25, 0.0)]))
        combiner     AP  AP50  s / iteration
        --------  -----  ----  -------------
        Sum       0.500     -          0.250
    """
    return text_table(*comparison_rows(runs))


def write_report(
    runs: Sequence[RunRecord],
    pictures: Mapping[str, str],
    facts: Mapping[str, Any],
) -> str:
    """The Markdown of a comparison.

    Args:
        runs: the trainings, in the order in which they are shown.
        pictures: file names by what they show: 'terms', 'weights' and 'sheet'; relative to
            the report. What is absent is left out.
        facts: 'config', 'seed', 'machine', 'versions' (a dict), 'command', 'data' (a line) and
            'window' (iterations that a logged value is the mean of).
    """
    combiners = " and ".join(run.combiner for run in runs)
    parts = [
        f"# {combiners} on the demo data",
        f"One detector (`{facts['config']}`) was trained {len(runs)} times for "
        f"{runs[0].iterations} iterations, with the same seed ({facts['seed']}), the same initial "
        "weights and the same pictures in the same order. Only the combiner differs. "
        f"{facts['data']}",
        markdown_table(*comparison_rows(runs)),
        "AP and AP50 are COCO's, on the validation split. Seconds per iteration are the median "
        "of the framework's own measure; waiting for data is in it, evaluation is not. Terms "
        f"are raw losses, averaged over the last {facts['window']} iterations; weights are "
        "those of the gradient.",
        _one_seed(runs, facts["seed"]),
    ]
    shown = (
        ("terms", "Terms", "Raw losses, whatever their weights; the axis is logarithmic."),
        (
            "weights",
            "Weights",
            "What each term's gradient was multiplied by. An optimizer that normalises "
            "gradients, as Adam does, responds to their ratio rather than to their size.",
        ),
        (
            "sheet",
            "Validation pictures",
            "Spread evenly over the validation split, not chosen.",
        ),
    )
    for key, title, text in shown:
        if key in pictures:
            parts.append(f"## {title}\n\n{text}\n\n![{title}]({pictures[key]})")
    parts.append(_reproduce(runs, facts))
    return "\n\n".join(parts) + "\n"


def _one_seed(runs: Sequence[RunRecord], seed: Any) -> str:
    lines = [
        "## What one seed can say, and what it cannot",
        "",
        f"It can say that each of these trainings ran and detects, what the weights did, and "
        f"what an iteration cost. It cannot rank the combiners: this is one draw (seed {seed}) of "
        "initial weights and data order, on a small validation split, and another seed moves AP, "
        "too, by an amount that one run does not show.",
    ]
    if len(runs) > 1:
        aps = [run.ap for run in runs]
        gap = max(aps) - min(aps)
        if gap == gap:  # not nan
            lines[-1] += (
                f" The {gap:.3f} AP between the best and the worst here are no evidence of a "
                "better method."
            )
    lines[-1] += (
        " Nor was the sum tuned: published comparisons find that a sum with tuned weights is "
        "hard to beat (Kurin et al. 2022, Xin et al. 2022). A claim needs several seeds and a "
        "tuned sum beside it."
    )
    return "\n".join(lines)


def _reproduce(runs: Sequence[RunRecord], facts: Mapping[str, Any]) -> str:
    lines = ["## To do it again", "", "```bash", str(facts["command"])]
    lines += [str(run.details["command"]) for run in runs if "command" in run.details]
    lines += ["```", "", "The first line makes all of this; the others are its trainings alone."]
    versions = ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
    lines += ["", f"Machine: {facts['machine']}.", "", f"Versions: {versions}."]
    minutes = [
        f"{run.combiner} {run.details['minutes']:.1f}"
        for run in runs
        if run.details.get("minutes") is not None
    ]
    if minutes:
        lines += ["", f"Minutes of training and evaluation: {', '.join(minutes)}."]
    lines += ["", "Every number is in `record.json`; the curves are in TensorBoard's format, too."]
    return "\n".join(lines)


def _fixed(number: float) -> str:
    return "-" if number != number else f"{number:.3f}"
