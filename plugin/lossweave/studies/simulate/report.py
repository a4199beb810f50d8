"""The findings as Markdown."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lossweave.studies.report.questions import Question
from lossweave.studies.report.tables import markdown_table
from lossweave.utils.files import write_atomically

__all__ = ["question", "report_text", "write_report"]

_RESULTS = ("reached", "exploded", "stalled", "moving")
#: Of whose fields the question is.
_ASKED = ("Sum", "SquaredSum", "Product")
_INTRODUCTION = """\
# Two losses that share their parameters, and every combiner on them

`{command}`, {date}. No detector and no data; the second loss is made {scales} times as large as the
first (the larger keeps its size). Trainings of {steps} updates, plain descent at a rate of
{descent:g} and Adam at {adam:g} for all, from three starts, on the conflicting toy of the CAGrad
paper and on a pair of least-squares problems (seed {seed}): they differ in the combiner alone.

![Sum, square and product](simulate.png)

- **step**: c where the step grows as the c-th power of the losses' common scale. 1: as a single
  loss's. From {explodes:g} on it explodes where losses are large.
- **part**: r where the second loss's part in the gradient grows as the r-th power of the ratio of
  the losses. 1: the larger one rules; 0: the ratio does not matter; below 0: the smaller one rules.
- **left**: what a loss of 1 keeps of its weight when the other falls from 1 to 0.001. Below
  {starved:g} it dies.
- **reached**: both losses could still fall by less than {reached:.0%} of their ranges on the Pareto
  set. **exploded**: {exploded:g} lengths of that set away, or not finite. **stalled**: neither, and
  hardly moving in the last tenth of the updates.
"""


def _cell(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.2f}" if abs(value) >= 0.01 else "0.00"


def report_text(record: Mapping[str, Any]) -> str:
    """The report.

    Args:
        record: the findings, as they are in ``simulate.json``.
    """
    rows, verdicts = [], []
    for name, found in record["combiners"].items():
        row = [f"`{name}`", _cell(found["size_power"]), _cell(found["share_power"])]
        left = found["left"]
        row.append(left if isinstance(left, str) else f"{left:.2g}")
        for optimizer in record["rates"]:
            counts = Counter(
                o["result"] for o in found["outcomes"] if o["optimizer"] == optimizer
            )
            row.append(" / ".join(str(counts[result]) for result in _RESULTS))
        rows.append(row)
        verdicts.append(f"- **{name}.** {found['words']}")
    header = ["combiner", "step", "part", "left", *(
        f"{optimizer}: {' / '.join(_RESULTS)}" for optimizer in record["rates"])]  # fmt: skip
    limits = {name: record["thresholds"][name]
              for name in ("explodes", "starved", "reached", "exploded")}  # fmt: skip
    introduction = _INTRODUCTION.format(
        command=record["command"],
        date=record["date"],
        scales=", ".join(f"{scale:g}" for scale in record["scales"]),
        steps=record["steps"],
        seed=record["seed"],
        descent=record["rates"]["descent"],
        adam=record["rates"]["Adam"],
        **limits,
    )
    return "\n".join([
        introduction,
        markdown_table(header, rows),
        "\n## In words\n",
        *verdicts,
        "\n![The fields of weights](fields.png)\n\n![The trainings](paths.png)\n",
    ])  # fmt: skip


def question(record: Mapping[str, Any], name: str) -> Question:
    """The row of the table of questions.

    Args:
        record: the findings, as they are in ``simulate.json``.
        name: of the folder.
    """
    said, exploded = [], []
    for combiner in _ASKED:
        found = record["combiners"][combiner]
        plain = [o for o in found["outcomes"] if o["optimizer"] == "descent"]
        count = sum(o["result"] == "exploded" for o in plain)
        exploded.append(f"{combiner} {count} of {len(plain)}")
        left = found["left"]
        kept = left if isinstance(left, str) else f"{left:.2g}"
        said.append(
            f"under {combiner} the step grows as the losses' scale to the power of "
            f"{_cell(found['size_power'])}, and a loss of 1 keeps {kept} of its weight when the "
            "other falls from 1 to 0.001"
        )
    text = "; ".join(said)
    return Question(
        "How does the gradient change under the sum, its square and the product?",
        f"[{name}]({name}/simulate.md)",
        f"{text[0].upper()}{text[1:]}.",
        f"exploded under plain descent: {', '.join(exploded)}",
        f"no detector: {len(record['combiners'])} combiners on two parameters",
        record["command"],
    )


def write_report(record: Mapping[str, Any], path: Path) -> None:
    """Write the report to a file.

    Args:
        record: the findings.
        path: of the Markdown file.
    """
    write_atomically(path, report_text(record).encode())
