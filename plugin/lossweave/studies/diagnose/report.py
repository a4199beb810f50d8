"""The report of a diagnosis: answers first, then the numbers behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from math import isfinite
from pathlib import Path
from typing import Any

from lossweave.studies.diagnose import thresholds
from lossweave.studies.diagnose.findings import Stage
from lossweave.studies.diagnose.plots import plot_diagnosis
from lossweave.studies.diagnose.record import Record
from lossweave.studies.diagnose.verdict import Diagnosis, Verdict, answers, weights_text
from lossweave.studies.report.tables import counted, markdown_table
from lossweave.utils.files import write_atomically, write_json
from lossweave.utils.provenance import machine_line

__all__ = ["write_diagnosis"]

_TITLES = {
    "matters": "Does it matter?",
    "scale": "Out of scale?",
    "conflict": "In conflict?",
    "noise": "Signal or noise?",
    "mend": "Anything for a gradient method to mend?",
    "optimizer": "What does the optimizer make of it?",
    "clipping": "Does clipping bind?",
}


def write_diagnosis(
    work_dir: str | Path, record: Record, found: Diagnosis, facts: Mapping[str, Any]
) -> None:
    """Write ``diagnosis.md``, ``.json`` and ``.png``, and print the answers.

    Args:
        work_dir: where.
        record: what was seen.
        found: what it says.
        facts: where the numbers come from, as
            :func:`~lossweave.studies.ledger.facts.facts_of` has it.
    """
    folder = Path(work_dir)
    plot_diagnosis(record, found.stages, folder / "diagnosis.png")
    content = {
        **facts,
        "static_weights": found.weights,
        "answers": {stage: answers(verdicts) for stage, verdicts in found.verdicts.items()},
        "verdicts": {
            stage: [asdict(verdict) for verdict in verdicts]
            for stage, verdicts in found.verdicts.items()
        },
        "stages": [asdict(stage) for stage in found.stages],
        "thresholds": {name: getattr(thresholds, name) for name in thresholds.__all__},
        "record": record.as_dict(),
    }
    write_json(folder / "diagnosis.json", content)
    write_atomically(folder / "diagnosis.md", _text(record, found, facts).encode())
    print(f"\n{_answered(found)}\n\nwritten: {folder / 'diagnosis.md'}")


def _answered(found: Diagnosis) -> str:
    """The answers as a person reads them on a terminal."""
    lines = []
    for stage, verdicts in found.verdicts.items():
        if len(found.verdicts) > 1:
            lines.append(f"[{stage}]")
        lines += [f"- {verdict.words}" for verdict in verdicts]
    return "\n".join(lines)


def _text(record: Record, found: Diagnosis, facts: Mapping[str, Any]) -> str:
    parts = [
        f"# Do these losses fight? {facts.get('config', '')}".rstrip(),
        *(_verdicts(stage, found.verdicts[stage.name], len(found.stages) > 1)
          for stage in found.stages),
        _weights(found),
        "![Values, lengths and cosines over the training and over the depth](diagnosis.png)",
        *(_numbers(record, stage, len(found.stages) > 1) for stage in found.stages),
        _origin(record, facts),
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _verdicts(stage: Stage, verdicts: Sequence[Verdict], several: bool) -> str:
    lines = [f"## {stage.name}\n"] if several else []
    for verdict in verdicts:
        lines.append(f"- **{_TITLES[verdict.topic]}** {verdict.words}")
    return "\n".join(lines)


def _weights(found: Diagnosis) -> str:
    weights = weights_text(found.weights)
    if len(found.weights) < 2:
        return "There is one term alone, which needs no weight."
    said = ", ".join(f"{term} {weight:.3g}" for term, weight in found.weights.items())
    return f"""Static weights that balance the gradients' lengths, times what the config has: \
**{said}**. To try them:

```bash
python tools/train.py CONFIG --combiner Sum --combiner-options weights={weights}
```"""


def _numbers(record: Record, stage: Stage, several: bool) -> str:
    title = f"## The numbers{f': {stage.name}' if several else ''}"
    terms = markdown_table(
        ["term", "value", "length", "over all", "signal", "SGD", "Adam", "gain", "held back",
         "balanced", "raised", "weight"],
        [
            [
                term.name, f"{term.value:.3g}", f"{term.length:.3g}", f"{term.whole:.3g}",
                f"{term.signal:.0%}", f"{term.sgd:.0%}", f"{term.adam:.0%}", f"{term.gain:.2f}",
                f"{term.held:.0%}", f"{term.held_balanced:.0%}", f"{term.raised:.0%}",
                f"{stage.weights[term.name]:.3g}" if term.name in stage.weights else "-",
            ]
            for term in stage.terms
        ],
    )  # fmt: skip
    pairs = markdown_table(
        ["pair", "cosine", "± ", "below 0", "of the means", "at the features", "lengths, ratio",
         "batches until known"],
        [
            [
                " and ".join(pair.terms), _number(pair.cosine), f"{pair.spread:.2f}",
                f"{pair.negative:.0%}", _number(pair.expected), _number(pair.features),
                f"{pair.ratio:.3g}", f"{pair.batches:g}",
            ]
            for pair in stage.pairs
        ],
    )  # fmt: skip
    names = [term.name for term in stage.terms]
    depth = markdown_table(
        ["part", *names, *(f"cos {' '.join(pair.terms)}" for pair in stage.pairs)],
        [
            [part, *(f"{x:.3g}" if x else "-" for x in found),
             *(_number(pair.parts.get(part)) for pair in stage.pairs)]
            for part, found in stage.parts.items()
        ],
    )  # fmt: skip
    condition = " and ".join(
        f"{x:.3g}" if isfinite(x) else "unbounded" for x in stage.condition
    )
    return f"""{title}

{counted(stage.looks, "look")}. Lengths and cosines are those of the gradients of the parameters \
that two or more terms reach; `over all`: of all parameters. `signal`: the mean gradient's part of \
a batch's, in squared length. `SGD`, `Adam`: shares of such a step. `gain`: what the sum's step \
does for a term, over what its own would; `held back`: in how many batches that is less than \
{thresholds.HELD:g}, as it is and with `balanced` lengths. `raised`: in how many looks the step \
that was made raised it, to first order.

{terms}

{pairs}

The terms' gradients have the condition number {condition} (as they are, and weighted). By part of \
the model, lengths and mean cosines:

{depth}"""


def _number(value: float | None) -> str:
    return "-" if value is None else f"{round(value, 2) + 0.0:.2f}"  # no -0.00


def _origin(record: Record, facts: Mapping[str, Any]) -> str:
    stopped = " It was interrupted: this is what was seen until then." if record.interrupted else ""
    part = record.seconds["looking"] / max(record.seconds["training"], 1e-9)
    every = "update" if record.interval == 1 else f"{record.interval} updates"
    return f"""## Where this comes from

```bash
{facts["command"]}
```

{record.iterations} iterations of the plain sum's training, the stock one to the last bit, looked \
at every {every}; the looks took {part:.0%} of its time.{stopped} Measured {facts["date"]} on \
{machine_line(facts["machine"])}. The thresholds are in `diagnosis.json`."""
