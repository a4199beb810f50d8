"""The report: a sentence, a table, the curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lossweave.studies.ledger.facts import places_text
from lossweave.studies.ledger.places import counted_as_one
from lossweave.studies.ledger.result import Result
from lossweave.studies.precision_recall.curves import IOUS
from lossweave.studies.precision_recall.findings import DetectorFindings
from lossweave.studies.precision_recall.rates import TunedFindings, rate_name
from lossweave.studies.report.paired import Spread
from lossweave.studies.report.plots import COLORS, DASHES
from lossweave.studies.report.tables import budget_text, counted, markdown_table, text_table
from lossweave.utils.files import write_json
from lossweave.utils.provenance import machine_line

__all__ = [
    "detectors_markdown",
    "detectors_table",
    "plot_curves",
    "sentence",
    "verdict",
    "write_detectors",
]

#: What the verdict is about, in this order.
_SAID = ("AP", *(f"AP at IoU {iou:g}" for iou in IOUS))


def write_detectors(
    work_dir: str,
    results: Sequence[Result],
    found: DetectorFindings,
    facts: Mapping[str, Any],
    tuned: TunedFindings | None = None,
) -> None:
    """Write ``precision_recall.json``, ``.md`` and ``curves.png``, and print the table.

    Args:
        work_dir: where to.
        results: the trainings.
        found: what those at the configs' own rates say.
        facts: where the numbers come from.
        tuned: what those at chosen rates say, if there are some.
    """
    folder = Path(work_dir)
    folder.mkdir(parents=True, exist_ok=True)
    chosen = {} if tuned is None else {"tuned": asdict(tuned)}
    write_json(folder / "precision_recall.json", {**facts, "findings": asdict(found), **chosen})
    plot_curves(found, folder / "curves.png")
    (folder / "precision_recall.md").write_text(detectors_markdown(results, found, facts, tuned))
    print(f"\n{text_table(*detectors_table(found))}\n\n{verdict(found)}\n")
    print(folder / "precision_recall.md")


def detectors_table(found: DetectorFindings) -> tuple[list[str], list[list[str]]]:
    """Header and rows: a quantity, each detector's mean, each difference to the reference."""
    reference = found.names[0]
    header = ["", *found.names, *(f"{name} minus {reference}" for name in found.names[1:])]
    rows = [
        [
            quantity,
            *(found.values[name][quantity].text(signed=False) for name in found.names),
            *(found.apart[name][quantity].text() for name in found.names[1:]),
        ]
        for quantity in found.values[reference]
    ]
    return header, rows


def verdict(found: DetectorFindings) -> str:
    """A sentence per detector: where it ends above, where below, where nothing is shown."""
    return "\n\n".join(sentence(found, name) for name in found.names[1:])


def sentence(found: DetectorFindings, name: str, how: str = "") -> str:
    """Where a detector ends above the reference, where below, where nothing is shown.

    Args:
        found: what the trainings say.
        name: the detector's.
        how: they were trained, where that has to be said.
    """
    by_sign: dict[int, list[str]] = {}
    for quantity in _SAID:
        apart = found.apart[name][quantity]
        by_sign.setdefault(apart.sign, []).append(f"{quantity} ({apart.text()})")
    parts = [
        f"{word} in {', '.join(by_sign[sign])}"
        for sign, word in ((1, "above"), (-1, "below"), (0, "no difference shown"))
        if sign in by_sign
    ]
    return f"{name} beside {found.names[0]}{how}: {'; '.join(parts)}."


def _at_chosen_rates(tuned: TunedFindings) -> str:
    rates = list(dict.fromkeys(rate for tried in tuned.tried.values() for rate in tried))
    rows = [
        [name, *(f"{tried[rate]:.3f}" if rate in tried else "-" for rate in rates),
         tuned.chosen[name]]
        for name, tried in tuned.tried.items()
    ]  # fmt: skip
    return "\n\n".join(
        [
            "## Each at a rate of its own",
            "AP on the validation split with the first seed, by learning rate. The best one is "
            "that of the further seeds, and of the comparison below.",
            markdown_table(["detector", *rates, "chosen"], rows),
            verdict(tuned.found),
            markdown_table(*detectors_table(tuned.found)),
        ]
    )


def detectors_markdown(
    results: Sequence[Result],
    found: DetectorFindings,
    facts: Mapping[str, Any],
    tuned: TunedFindings | None = None,
) -> str:
    """The report's text; its picture lies beside it. Arguments as :func:`write_detectors`."""
    seeds = sorted({result.seed for result in results})
    budget = budget_text(results[0].budget)
    places = places_text((r.place, f"{Path(r.config).stem}, seed {r.seed}") for r in results)
    code = f"Code: {facts['code']}. " if "code" in facts else ""
    parts = [
        f"# Recall against precision: {' and '.join(found.names)}, {counted(len(seeds), 'seed')}",
        verdict(found),
        markdown_table(*detectors_table(found)),
        f"Every detector with `{results[0].method}` and the same budget ({budget}), on the test "
        "split. Precision is COCO's, the mean over classes; AP is over IoU 0.5 to 0.95. "
        "Intervals are Student's at 95 %, differences paired by seed. A seed shares the order "
        "of the data; detectors with other parts have other initial weights.",
        "![Precision over recall](curves.png)",
        "## The terms at the end of training\n\n" + markdown_table(*_losses(found)),
        *([_at_chosen_rates(tuned)] if tuned else []),
        *([f"## Trained in several places\n\n{places}"] if places else []),
        *([one] if (one := counted_as_one(results)) else []),
        "## Every training\n\n"
        + markdown_table(
            ["training", "AP", "minutes", "command"],
            [
                [
                    f"{Path(r.config).stem}, seed {r.seed}"
                    + ("" if r.rate is None else f", rate {rate_name(r.rate)}"),
                    f"{r.scores['test']:.3f}",
                    f"{r.seconds.get('training', float('nan')) / 60:.1f}",
                    f"`{r.command}`",
                ]
                for r in results
            ],
        ),
        f"Command: `{facts['command']}`",
        f"Date: {facts['date']}. {code}Machine: {machine_line(facts['machine'])}.",
    ]
    return "\n\n".join(parts) + "\n"


def _losses(found: DetectorFindings) -> tuple[list[str], list[list[str]]]:
    def text(spread: Spread | None) -> str:
        return spread.text(signed=False) if spread else "-"

    terms = list(dict.fromkeys(term for losses in found.losses.values() for term in losses))
    rows = [[term, *(text(found.losses[name].get(term)) for name in found.names)] for term in terms]
    rows.append(["minutes", *(found.minutes[name].text(1, signed=False) for name in found.names)])
    return ["term", *found.names], rows


def plot_curves(found: DetectorFindings, path: str | Path) -> Path:
    """Precision over recall: a panel for each IoU, a line a detector, the mean over its seeds.

    Args:
        found: what the trainings say.
        path: the PNG to write.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.6 * len(IOUS), 3.9), layout="constrained")
    panels = figure.subplots(1, len(IOUS), sharey=True)
    for place, (panel, iou) in enumerate(zip(panels, IOUS, strict=True)):
        for row, name in enumerate(found.names):
            precision = found.precision[name][place]
            panel.plot(
                [r / (len(precision) - 1) for r in range(len(precision))],
                precision,
                color=COLORS[row % len(COLORS)],
                linestyle=DASHES[row % len(DASHES)],
                linewidth=1.8,
                label=name,
            )
        panel.set(title=f"IoU {iou:g}", xlabel="recall", xlim=(0, 1), ylim=(0, 1.02))
        panel.grid(True, color="0.88", linewidth=0.8)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("precision, mean over classes")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=9)
    figure.savefig(path, dpi=110)
    return Path(path)
