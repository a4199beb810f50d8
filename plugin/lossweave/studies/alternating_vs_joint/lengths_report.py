"""The report over several lengths: table, verdict, picture."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from math import isfinite
from pathlib import Path
from typing import Any

from lossweave.studies.alternating_vs_joint.findings import (
    ALTERNATING,
    EQUAL,
    JOINT,
    RECORD_RATIOS,
    UNDERTRAINED,
    Run,
    Study,
)
from lossweave.studies.alternating_vs_joint.lengths import Length, Lengths
from lossweave.studies.alternating_vs_joint.plots import plot_lengths
from lossweave.studies.alternating_vs_joint.report import places_of
from lossweave.studies.report.paired import Spread, spread
from lossweave.studies.report.tables import counted, markdown_table, number, text_table
from lossweave.utils.files import write_json
from lossweave.utils.provenance import machine_line

__all__ = ["lengths_markdown", "lengths_table", "lengths_verdict", "write_lengths"]


def write_lengths(
    study: Study, runs: Sequence[Run], found: Lengths, facts: Mapping[str, Any]
) -> None:
    """Write ``lengths.md``, ``lengths.json`` and ``lengths.png``, and print the table.

    Args:
        study: what was asked for; its ``work_dir`` is written to.
        runs: the trainings of all lengths.
        found: what they say.
        facts: where the numbers come from, as
            :func:`~lossweave.utils.provenance.provenance` has it.
    """
    folder = Path(study.work_dir)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "lengths.json", {**facts, "findings": asdict(found)})
    if found.each:
        plot_lengths(found, folder / "lengths.png")
    (folder / "lengths.md").write_text(lengths_markdown(study, runs, found, facts))
    print(f"\n{text_table(*lengths_table(found))}\n\n{lengths_verdict(found)}\n")
    print(folder / "lengths.md")


def lengths_verdict(found: Lengths) -> str:
    """Whether the gap closes with length, in a sentence or two with intervals."""
    if not found.each:
        return "No length has trainings of both ways with one seed yet, so nothing can be said."
    first, last = found.each[0], found.each[-1]
    gaps = [_gap(one) for one in (first, last)]
    if first is last:
        return (
            f"One length (the papers' {first.name}) says nothing about others: alternating minus "
            f"joint AP {gaps[0].text()}."
        )
    slope = found.slope
    said = {
        1: "it rises, so the gap closes" if gaps[0].mean < 0 else "it rises",
        -1: "it falls, so the gap widens" if gaps[1].mean < 0 else "it falls",
        0: "that it changes is not shown",
    }[slope.sign]
    left = (
        "one seed of the longest tells no difference"
        if gaps[1].count < 2
        else "at the longest no difference is shown"
        if not gaps[1].sign
        else f"at the longest alternating training still ends {_side(gaps[1])} joint training"
    )
    return (
        f"Alternating minus joint AP is {gaps[0].text()} at the papers' {first.name} and "
        f"{gaps[1].text()} at {last.name}, {slope.text()} a doubling: {said}; {left}."
    )


def _side(value: Spread) -> str:
    return "above" if value.mean > 0 else "below"


def _gap(one: Length) -> Spread:
    return spread([*one.gap.values()])


def lengths_table(found: Lengths) -> tuple[list[str], list[list[str]]]:
    """Header and rows, one a length."""
    equal = any(EQUAL in one.found.final for one in found.each)
    header = ["papers' iterations", "joint updates", "joint image passes", "seeds"]
    header += ["AP alternating", "AP joint", "AP50 joint", "difference, 95 %"]
    header += ["to equal compute, 95 %"] if equal else []
    header += ["step 4 - step 2, 95 %", "minutes alternating", "minutes joint", "time ratio"]
    header += ["by median iterations"]
    rows = []
    for one in found.each:
        final, seconds = one.found.final, one.found.seconds
        differences = one.found.differences
        beyond = differences.get(f"after step 4 - {EQUAL}")
        steps = differences.get("after step 4 - after step 2")
        rows.append(
            [
                *(one.name, str(one.steps), str(one.passes), str(len(one.gap))),
                *(number(final[arm]["AP"].mean) for arm in (ALTERNATING, JOINT)),
                number(final[JOINT]["AP50"].mean),
                _gap(one).text(),
                *([beyond["AP"].text() if beyond else "-"] if equal else []),
                steps["AP"].text() if steps else "-",
                *(number(seconds[arm].mean / 60, 1) for arm in (ALTERNATING, JOINT)),
                _ratio(one.found.ratios[f"all steps / {JOINT}"]),
                _ratio(spread([*one.ratio.values()])),
            ]
        )
    return header, rows


def _ratio(value: Spread) -> str:
    return value.text(2, signed=False)


def lengths_markdown(
    study: Study, runs: Sequence[Run], found: Lengths, facts: Mapping[str, Any]
) -> str:
    """The report's text; its picture lies beside it. Arguments as :func:`write_lengths`."""
    seeds = sorted({seed for one in found.each for seed in one.gap})
    code = f"Code: {facts['code']}. " if "code" in facts else ""
    low, high = RECORD_RATIOS
    parts = [
        "# Faster R-CNN, alternating against joint training: does the gap close with length?",
        lengths_verdict(found),
        *([markdown_table(*lengths_table(found))] if found.each else []),
        *(_undertrained(found)),
        f"Config: `{study.config}`, its budgets multiplied, learning rate drops and warm-ups with "
        "them. The first column is what py-faster-rcnn's iterations are divided by; images a "
        "step are the config's. "
        f"Differences and ratios are paired by seed ({counted(len(seeds), 'seed')}), with "
        "Student's 95 % interval. Times are of training and proposal passes, without "
        "evaluations, and those by median iterations depend less on other load. The change a "
        "doubling is the slope of a line through each seed's differences over the logarithm of "
        "its image passes, which has Student's interval over the seeds. On record are time "
        f"ratios from {low:.2f} to {high:.2f}, and differences within 0.01 AP after the papers' "
        "whole trainings.",
        *(["![AP, difference and time ratio over the length](lengths.png)"] if found.each else []),
        *(["## Every seed\n\n" + _seed_table(found)] if found.each else []),
        *places_of(runs),
        f"Command: `{study.command}`",
        f"Date: {facts['date']}. {code}Machine: {machine_line(facts['machine'])}; "
        f"{counted(study.jobs, 'training')} at a time. Every number is in `lengths.json`, every "
        "training's own record in `ledger.jsonl`.",
    ]
    return "\n\n".join(parts) + "\n"


def _undertrained(found: Lengths) -> list[str]:
    """What is said of lengths at which joint training has hardly learned."""
    short = [
        one.name
        for one in found.each
        if isfinite(ap50 := one.found.final[JOINT]["AP50"].mean) and ap50 < UNDERTRAINED
    ]
    if not short:
        return []
    return [
        f"Joint training ends below AP50 {UNDERTRAINED} at {', '.join(short)}: differences there "
        "are between trainings cut short."
    ]


def _seed_table(found: Lengths) -> str:
    rows = [
        [
            one.name,
            str(seed),
            *map(number, one.ends[seed]),
            f"{gap:+.3f}",
            f"{one.ratio[seed]:.2f}",
        ]
        for one in found.each
        for seed, gap in one.gap.items()
    ]
    header = ["papers' iterations", "seed", "AP alternating", "AP joint", "difference"]
    return markdown_table([*header, "time ratio by median iterations"], rows)
