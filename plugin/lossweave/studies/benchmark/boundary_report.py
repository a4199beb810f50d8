"""The report on the boundaries: time, memory, and what should hold."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lossweave.studies.benchmark.boundary_findings import (
    FLAT,
    TORCHJD,
    TORCHJD_MTL,
    BoundaryCosts,
)
from lossweave.studies.benchmark.detectors import CONTROL
from lossweave.studies.report.tables import markdown_table, text_table
from lossweave.utils.provenance import machine_line

__all__ = ["boundaries_markdown", "result_text", "write_boundaries"]


def write_boundaries(
    work_dir: str, results: Sequence[BoundaryCosts], facts: Mapping[str, Any]
) -> Path:
    """Write ``boundaries.json`` and ``boundaries.md``.

    Args:
        work_dir: where they are written.
        results: a detector each.
        facts: 'command', 'date', 'minutes', 'rounds', 'batch_size', 'machine' and 'versions'.

    Returns:
        The report's path.
    """
    folder = Path(work_dir)
    folder.mkdir(parents=True, exist_ok=True)
    content = {**facts, "results": [_as_json(result) for result in results]}
    (folder / "boundaries.json").write_text(json.dumps(content, indent=1))
    (folder / "boundaries.md").write_text(boundaries_markdown(results, facts))
    return folder / "boundaries.md"


def result_text(result: BoundaryCosts) -> str:
    """A detector's tables for the terminal."""
    tables = (_rows, _memory_rows, _check_rows)
    return "\n\n".join(text_table(*table([result])) for table in tables)


def boundaries_markdown(results: Sequence[BoundaryCosts], facts: Mapping[str, Any]) -> str:
    """The report's text; arguments as :func:`write_boundaries`."""
    batch_size, rounds = facts["batch_size"], facts["rounds"]
    return f"""# What a boundary costs

Measured {facts["date"]} in {facts["minutes"]} minutes by

```bash
{facts["command"]}
```

on {machine_line(facts["machine"])}, {_versions(facts["versions"])}. \
A step is forward, `parse_losses`, backward and optimizer on one batch of
{batch_size} pictures with the terms cls and loc. All rows share the stock detector's weights and
take turns with it in one process (A B B A, {rounds} rounds). *Step ratio* is the median of the
paired ratios; the control pairs the stock detector with itself. The *K-pass limit* is
(F + K B) / (F + B) with the forward F and backward B of this run's stock step. The *heads' limit*
is (F + B - H + H_1 + ... + H_K) / (F + B), with the backward H from all terms at once down to the
features (what the neck returns) and H_k from term k alone: the least that differentiating the
terms one by one down to there takes. Where they share layers above the features, as Faster R-CNN's
share the RPN's convolution and the RoI head's fully connected layers, it is well above 1. The C
library keeps freed memory throughout, so that no row pays for pages that another one gave back.
With one torch thread on a CPU, times are the process's own.

{markdown_table(*_rows(results))}

- *{TORCHJD}* is its `backward` and `jac_to_grad`, which combine all parameters, *{TORCHJD_MTL}*
  its `mtl_backward` and `jac_to_grad` with the neck's outputs as features. {_said(results)}
- *{FLAT}* is one `backward` per loss, the gradients of the shared parameters flattened into one
  matrix, combined there, and written back, with the buffers that LibMTL makes.

## Peak memory

The peak of live tensors during one step (on a CPU every allocation of the step in torch's
profiler, on CUDA `max_memory_allocated`), with parameters, buffers and the optimizer's state. The
*limit* is stock + 5 % + K copies of the gradients that are combined. From torch 2.6 on, which can
start a backward inside a graph, terms are differentiated in two stages at the parameters; on older
ones in one, which takes more memory there.

{markdown_table(*_memory_rows(results))}

## What should hold

{markdown_table(*_check_rows(results))}
"""


def _versions(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {versions[name]}" for name in ("torch", "mmdet") if name in versions)


def _as_json(result: BoundaryCosts) -> dict[str, Any]:
    names = list(result.steps)
    return {
        **asdict(result),
        "limit": result.limit,
        "heads_limit": result.heads_limit,
        "memory": {name: result.memory(name) for name in names},
        "memory_limit": {name: result.memory_limit(name) for name in names},
        "checks": [{**asdict(check), "held": check.held} for check in result.checks()],
    }


def _label(result: BoundaryCosts, name: str) -> str:
    return name if name == CONTROL else f"{result.method}, {name}"


def _said(results: Sequence[BoundaryCosts]) -> str:
    calls = [
        f"{result.detector}: {name} with {result.notes[name]}"
        for result in results
        for name in (TORCHJD, TORCHJD_MTL)
        if name in result.notes
    ]
    return f"Of the ways to call them that run, the fastest ({'; '.join(calls)})."


def _rows(results: Sequence[BoundaryCosts]) -> tuple[list[str], list[list[str]]]:
    header = ["detector", "combined", "step ratio", "quartiles", "min .. max"]
    header += ["heads' limit", "K-pass limit"]
    rows = []
    for result in results:
        for name, step in result.steps.items():
            least, first, third, most = step.quantiles(0, 0.25, 0.75, 1)
            rows.append(
                [
                    result.detector,
                    _label(result, name),
                    f"{step.ratio:.3f}",
                    f"{first:.3f} to {third:.3f}",
                    f"{least:.3f} .. {most:.3f}",
                    f"{result.heads_limit:.3f}",
                    f"{result.limit:.3f}",
                ]
            )
    return header, rows


def _memory_rows(results: Sequence[BoundaryCosts]) -> tuple[list[str], list[list[str]]]:
    header = ["detector", "combined", "peak, MiB", "to stock", "limit to stock", "within"]
    rows = []
    for result in results:
        stock = result.memory(CONTROL)
        for name in result.peaks:
            peak, limit = result.memory(name), result.memory_limit(name)
            rows.append(
                [
                    result.detector,
                    _label(result, name),
                    f"{peak / 2**20:.1f}",
                    f"{peak / stock:.3f}",
                    "" if name == CONTROL else f"{limit / stock:.3f}",
                    "" if name == CONTROL else ("yes" if peak <= limit else "NO"),
                ]
            )
    return header, rows


def _check_rows(results: Sequence[BoundaryCosts]) -> tuple[list[str], list[list[str]]]:
    rows = [
        [result.detector, check.what, f"{check.ratio:.3f}", f"{check.most:.3f}",
         "yes" if check.held else "NO"]
        for result in results
        for check in result.checks()
    ]  # fmt: skip
    return ["detector", "what", "measured", "at most", "holds"], rows
