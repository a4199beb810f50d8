"""The report on the cost over the number of terms."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lossweave.studies.benchmark.many_terms_findings import AIM, ManyTerms, TermCosts
from lossweave.studies.report.tables import markdown_table, text_table
from lossweave.utils.provenance import machine_line

__all__ = ["cost_text", "many_terms_markdown", "write_many_terms"]

_Table = tuple[list[str], list[list[str]]]


def write_many_terms(
    asked: ManyTerms, results: Sequence[TermCosts], facts: Mapping[str, Any]
) -> Path:
    """Write ``many_terms.json``, ``many_terms.md`` and ``many_terms.png``.

    Args:
        asked: what was measured.
        results: the measurements.
        facts: where they come from.

    Returns:
        The report's path.
    """
    folder = Path(asked.work_dir)
    folder.mkdir(parents=True, exist_ok=True)
    content = {**facts, "settings": asdict(asked), "results": [asdict(one) for one in results]}
    (folder / "many_terms.json").write_text(json.dumps(content, indent=1))
    (folder / "many_terms.md").write_text(many_terms_markdown(asked, results, facts))
    _plot([one for one in results if not one.processes], folder / "many_terms.png")
    return folder / "many_terms.md"


def cost_text(costs: TermCosts) -> str:
    """One measurement's tables for the terminal."""
    return "\n\n".join(text_table(*table([costs])) for table in (_rows, _check_rows))


def many_terms_markdown(
    asked: ManyTerms, results: Sequence[TermCosts], facts: Mapping[str, Any]
) -> str:
    """The report's text; arguments as :func:`write_many_terms`."""
    alone = [one for one in results if not one.processes]
    together = [one for one in results if one.processes]
    several = (
        f"""
## Several processes

{asked.across} terms, gloo, on this one machine, each process under DDP with a batch of its own;
the first one's CPU time, to that of its stock step under the same DDP.

{markdown_table(*_rows(together))}

{markdown_table(*_check_rows(together))}
"""
        if together
        else ""
    )
    return f"""# What a term costs

Measured {facts["date"]} in {facts["minutes"]} minutes by

```bash
{facts["command"]}
```

on {machine_line(facts["machine"])}, one thread. The network is the demo RetinaNet's backbone
and neck, a convolution that all heads share, and K heads with a loss each; a step is forward,
backward and optimizer on one batch of {asked.batch_size} pictures, {asked.size} pixels a side,
combined by {asked.method}. Rows share the stock network's weights and take turns with it in one
process (A B B A, {asked.rounds} rounds, fewer of many terms). The clock is the process's CPU time,
so other jobs on the machine do not count. *To stock* is the median of the paired ratios, and
*a term* that less 1, over K. The *K-pass limit* is (F + K B) / (F + B).

![Step over the number of terms](many_terms.png)

{markdown_table(*_rows(alone))}

*One batched pass* takes all rows by `autograd.grad(..., is_grads_batched=True)`, and adds them
up: it runs every head for all K rows, of which each head has but one.

{markdown_table(*_check_rows(alone))}

A term's part should be at most {AIM:.0%} of a stock step at the representation and at the features.
At the features every term's pass also runs through the convolution that all share, and at the
representation it does not.
{several}"""


def _rows(results: Sequence[TermCosts]) -> _Table:
    header = ["K", "processes", "row", "to stock", "quartiles", "a term", "K-pass limit"]
    rows = []
    for one in results:
        for name, times in one.steps.items():
            low, high = times.quantiles(0.25, 0.75)
            rows.append(
                [
                    str(one.terms), str(one.processes or "-"), name, f"{times.ratio:.3f}",
                    f"{low:.3f} to {high:.3f}", f"{one.per_term(name):+.2%}", f"{one.limit:.2f}",
                ]
            )  # fmt: skip
    return header, rows


def _check_rows(results: Sequence[TermCosts]) -> _Table:
    header = ["K", "processes", "what", "found", "at most", "held"]
    return header, [
        [str(one.terms), str(one.processes or "-"), check.what, f"{check.ratio:.4f}",
         f"{check.most:.4f}", "yes" if check.held else "NO"]
        for one in results
        for check in one.checks()
    ]  # fmt: skip


def _plot(results: Sequence[TermCosts], path: Path) -> None:
    """The step's ratio to stock over K, a line a row, with the K-pass limit."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    counts = [one.terms for one in results]
    for name in results[0].steps:
        ratios = [one.steps[name].ratio for one in results]
        style = "--" if "batched" in name else "-"
        axes.plot(counts, ratios, style, marker="o", label=name)
    axes.plot(counts, [one.limit for one in results], ":", color="black", label="K-pass limit")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.set_xticks(counts, [str(count) for count in counts])
    highest = axes.get_ylim()[1]
    ticks = [tick for tick in (1, 1.2, 1.5, 2, 3, 4, 6, 8, 12, 16, 24) if tick <= highest]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("terms K")
    axes.set_ylabel("step, to the stock step with as many heads")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)
