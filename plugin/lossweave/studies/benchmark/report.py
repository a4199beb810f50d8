"""The report of the benchmark: what a combiner adds to a step, a table a detector."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lossweave.studies.benchmark.detectors import CONTROL
from lossweave.studies.benchmark.findings import Benchmark, DetectorResult
from lossweave.studies.report.tables import markdown_table, text_table
from lossweave.utils.provenance import machine_line

__all__ = ["benchmark_markdown", "result_text", "write_benchmark"]


def write_benchmark(
    benchmark: Benchmark, results: Sequence[DetectorResult], facts: Mapping[str, Any], device: str
) -> None:
    """Write ``benchmark.json`` and ``benchmark.md``.

    Args:
        benchmark: what was asked for; its ``work_dir`` is written to.
        results: a detector each.
        facts: where the numbers come from, as
            :func:`~lossweave.utils.provenance.provenance` has it, with the 'minutes'.
        device: what was measured on.
    """
    folder = Path(benchmark.work_dir)
    folder.mkdir(parents=True, exist_ok=True)
    content = {**facts, "results": [asdict(result) for result in results]}
    (folder / "benchmark.json").write_text(json.dumps(content, indent=1))
    (folder / "benchmark.md").write_text(benchmark_markdown(benchmark, results, facts, device))


def result_text(result: DetectorResult) -> str:
    """A detector's table for the terminal."""
    return f"{_heading(result)}\n{text_table(*_rows(result))}"


def _rows(result: DetectorResult) -> tuple[list[str], list[list[str]]]:
    header = [
        "combiner",
        "step ratio",
        "95 % interval",
        "quartiles",
        "min .. max",
        "own cost (us)",
        "of it parse_losses",
        "iteration",
        "95 % interval of it",
        "syncs added",
    ]
    rows = []
    for name, cost in result.costs.items():
        low, high = cost.step.interval()
        least, first, third, most = cost.step.quantiles(0, 0.25, 0.75, 1)
        factor, factor_low, factor_high = result.factor(name)
        micro = 1e6 * cost.own.difference
        rows.append(
            [
                name,
                f"{cost.step.ratio:.3f}",
                f"{low:.3f} to {high:.3f}",
                f"{first:.3f} to {third:.3f}",
                f"{least:.3f} .. {most:.3f}",
                f"{micro:.0f}",
                f"{1e6 * cost.forward.difference:.0f}",
                f"{factor:.4f}",
                f"{factor_low:.4f} to {factor_high:.4f}",
                str(cost.added_syncs),
            ]
        )
    return header, rows


def _heading(result: DetectorResult) -> str:
    return (
        f"{result.detector} ({result.config}): stock step {1e3 * result.step_seconds:.0f} ms "
        f"(fastest {1e3 * result.fastest:.0f}) with {result.stock_syncs} synchronisations; "
        f"hook {1e6 * result.hook_seconds:.0f} us "
        f"an iteration ({100 * result.hook_seconds / result.step_seconds:.2f} %)"
    )


def benchmark_markdown(
    benchmark: Benchmark, results: Sequence[DetectorResult], facts: Mapping[str, Any], device: str
) -> str:
    """The report's text; arguments as :func:`write_benchmark`."""
    parts = [
        "# What a combiner costs",
        f"Measured {facts['date']} in {facts['minutes']} minutes by\n\n"
        f"```bash\n{facts['command']}\n```\n\non {machine_line(facts['machine'])}; "
        + ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
        + ".",
        *_measured(benchmark, results, device),
        _most_expensive(results),
    ]
    for result in results:
        table = markdown_table(*_rows(result))
        parts.append(f"## {result.detector}\n\n{_heading(result)}.\n\n{table}")
    if any("Alternating" in result.costs for result in results):
        parts.append(
            "`Alternating` and other methods that leave a term out of an update can be faster than "
            "the stock step: no gradient is computed for that term."
        )
    return "\n\n".join(parts) + "\n"


def _measured(benchmark: Benchmark, results: Sequence[DetectorResult], device: str) -> list[str]:
    controls = ", ".join(
        f"{result.costs[CONTROL].step.ratio:.3f} ({result.detector})" for result in results
    )
    return [
        "**What is measured.** A step is forward, `parse_losses`, backward and optimizer on one "
        f"batch of {benchmark.batch_size} pictures. The stock detector and the combined one share "
        "their weights and take turns in one process "
        f"(A B B A, {benchmark.rounds} rounds, a new order of combiners each round). *Step ratio* "
        "is the median of the paired ratios, with a bootstrap interval of that median, "
        "quartiles and extremes. The control row pairs the stock detector with itself, so what it "
        f"shows beside 1 is noise: {controls}.",
        "That noise is larger than what is asked about, so the cost is also measured alone. *Own "
        "cost* is the median of paired differences, combined less stock, of `parse_losses` and "
        "the backward pass from the scalar down to the raw losses, in microseconds "
        f"({benchmark.repeats} rounds), and *iteration* is 1 + own cost / stock step. "
        "Its interval is that of the own cost; the stock step is the median of this run. "
        "*Syncs added* counts what would make the host wait for the device in a whole step, "
        "beyond the stock step's own"
        + (", as torch reports it." if device != "cpu" else " (on a CPU: such operators).")
        + " The hook's time is given in each heading; it comes on top.",
    ]


def _most_expensive(results: Sequence[DetectorResult]) -> str:
    factor, combiner, detector = max(
        (
            (result.factor(name)[0], name, result.detector)
            for result in results
            for name in result.costs
            if name != CONTROL
        ),
        default=(float("nan"), "-", "-"),
    )
    return (
        f"**Result.** The most expensive combiner by its own cost is {combiner} on {detector}: "
        f"{factor:.4f} stock iterations. The aim is 1.01."
    )
