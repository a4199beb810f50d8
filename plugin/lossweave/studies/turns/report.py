"""The report on turns: tables, three answers, three pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lossweave.studies.ledger.facts import places_text
from lossweave.studies.report.paired import Spread, spread
from lossweave.studies.report.plots import plot_history, plot_lines, plot_scores
from lossweave.studies.report.tables import counted, markdown_table, number, text_table
from lossweave.studies.turns.findings import Answers, Outcome, Turns
from lossweave.studies.turns.verdict import (
    further_verdict,
    half_verdict,
    help_verdict,
    longer_verdict,
)
from lossweave.utils.files import write_json
from lossweave.utils.provenance import machine_line

__all__ = ["turns_markdown", "turns_table", "write_turns"]


def write_turns(
    turns: Turns, outcomes: Sequence[Outcome], found: Answers, facts: Mapping[str, Any]
) -> None:
    """Write ``turns.json``, and ``turns.md`` with its pictures, and print the table.

    Args:
        turns: what was asked for; its ``work_dir`` is written to.
        outcomes: the trainings.
        found: what they say.
        facts: where the numbers come from, as
            :func:`~lossweave.utils.provenance.provenance` has it.
    """
    folder = Path(turns.work_dir)
    folder.mkdir(parents=True, exist_ok=True)
    results = dict(answers=asdict(found), outcomes=[_as_dict(outcome) for outcome in outcomes])
    write_json(folder / "turns.json", {**facts, **results})
    labels = {part: method.label for part, method in turns.methods.items()}
    plot_scores([o.score for o in outcomes], labels["half"], folder / "scores.png", "reference")
    first = [o.run for o in outcomes if o.score.seed == min(turns.seeds)]
    plot_history(
        first, "value", folder / "terms.png", f"The terms over time, seed {turns.seeds[0]}"
    )
    plot_lines(
        {labels[part]: points for part, points in found.apart.items() if points},
        folder / "apart.png",
        "Distance of the weights to those of the half-weighted sum",
        "iteration",
        "relative to the way gone",
    )
    (folder / "turns.md").write_text(turns_markdown(turns, outcomes, found, facts))
    print(f"\n{text_table(*turns_table(turns, outcomes))}\n\n{folder / 'turns.md'}")


def turns_table(turns: Turns, outcomes: Sequence[Outcome]) -> tuple[list[str], list[list[str]]]:
    """Header and rows: a method's AP, and every term's loss in training and held out."""
    terms = list(outcomes[0].held_out)
    header = ["method", "seeds", "AP", "sd", "AP50"]
    header += [text for term in terms for text in (f"{term} held out", "sd", f"{term} in training")]
    rows = []
    for part, method in turns.methods.items():
        here = [o for o in outcomes if o.part == part]
        ap = spread([o.score.test for o in here])
        row = [method.label, str(len(here)), number(ap.mean), number(ap.sd)]
        row.append(number(spread([o.score.test50 for o in here]).mean))
        for term in terms:
            held_out = spread([o.held_out[term] for o in here])
            row += [number(held_out.mean, 4), number(held_out.sd, 4)]
            row.append(number(spread([o.end_loss(term) for o in here]).mean, 4))
        rows.append(row)
    return header, rows


def turns_markdown(
    turns: Turns, outcomes: Sequence[Outcome], found: Answers, facts: Mapping[str, Any]
) -> str:
    """The report's text; its pictures lie beside it. Arguments as :func:`write_turns`."""
    terms = list(outcomes[0].held_out)
    shortest = min(turns.lengths)
    iterations = outcomes[0].run.iterations
    code = f"Code: {facts['code']}. " if "code" in facts else ""
    options = " ".join(turns.options)
    settings = f", with `{options}`" if options else ""
    return f"""# Turns by terms: {len(turns.methods)} methods, {counted(len(turns.seeds), "seed")}

{_answers(turns, found)}

{markdown_table(*turns_table(turns, outcomes))}

Detector: `{turns.config}`, {iterations} iterations{settings}. Within a seed all
methods share initial weights and the order of the data. AP and the held-out losses are those of the
test split; "in training" is the mean over the last tenth of the iterations. Differences below are
paired by seed, with Student's 95 % interval, which so few seeds leave wide. It is not corrected for
their number.

## Against the plain sum

{_to_sum(found, turns, terms)}

## Is taking turns, to first order, the half-weighted sum?

{_first_order(found)}Turns of {shortest} minus `Sum weights=[0.5,0.5]`: {_differences(found.half)}.

How far the weights are from those of the half-weighted sum, in units of the way that training has
gone from the common start, mean over the seeds:

{_apart_table(turns, found)}

0 is the same training, about 1.4 one that went as far in an unrelated direction. Trainings that
differ in rounding alone drift apart, too, so the early columns say most. An optimizer that divides
by the gradient's size (Adam) undoes a weight on the whole sum, sees larger squared gradients under
turns, and steps a held head half as often: none of that is first order in the learning rate.

Mean |log(loss / loss of the half-weighted sum)| over the training:

{_by_term(found.curves, turns, terms, signed=False)}

## Do longer turns pass a gain on?

{_longer(found, terms, turns)}

## Does one task's training help the other?

{_alone(found)}{_further(found)}

![AP on the test split, a dot per seed](scores.png)
![Terms over time](terms.png)
![Distance of the weights](apart.png)

{_places(outcomes)}Command: `{turns.command}`

Date: {facts["date"]}. {code}Machine: {machine_line(facts["machine"])}. \
Every number is in `turns.json`.
"""


def _answers(turns: Turns, found: Answers) -> str:
    """A point a question."""
    said = [
        ("The half-weighted sum, to first order?", half_verdict(turns, found)),
        ("Do longer turns pass a gain on?", longer_verdict(turns, found)),
        ("Does one task's training help the other?", help_verdict(found)),
        *([("Further methods.", further_verdict(turns, found))] if found.further else []),
    ]
    return "\n".join(f"- **{asked}** {answer}" for asked, answer in said)


def _first_order(found: Answers) -> str:
    if not found.first_order:
        return ""
    rates = list(next(iter(found.first_order.values())))
    rows = [
        [data, *(values[rate].text(4, signed=False) for rate in rates)]
        for data, values in found.first_order.items()
    ]
    return (
        "Two plain gradient steps from a seed's initial weights, one of each term against two of "
        "the half-weighted sum: the distance between both ends over the way gone, by learning "
        "rate.\n\n"
        + markdown_table(["data of the two steps", *rates], rows)
        + "\n\nWhere it falls in proportion to the rate, the two are the same to first order. With "
        "a new batch for each step a term sees only half of the batches, and what batches differ "
        "by does not fall with the rate.\n\n"
    )


def _to_sum(found: Answers, turns: Turns, terms: Sequence[str]) -> str:
    labels = {part: method.label for part, method in turns.methods.items()}
    rows = [
        [
            f"{labels[part]} - Sum",
            *(values[m].text(3 if m.startswith("AP") else 4) for m in ("AP", "AP50", *terms)),
        ]
        for part, values in found.to_sum.items()
    ]
    return markdown_table(["difference, 95 %", "AP", "AP50", *(f"{t} loss" for t in terms)], rows)


def _differences(found: Mapping[str, Spread]) -> str:
    parts = []
    for name, value in found.items():
        places = 3 if name.startswith("AP") else 4
        parts.append(f"{name if name.startswith('AP') else f'{name} loss'} {value.text(places)}")
    return ", ".join(parts)


def _apart_table(turns: Turns, found: Answers) -> str:
    steps = sorted({step for points in found.apart.values() for step in points})
    if not steps:
        return "(no samples of the weights were kept)"
    chosen = sorted({steps[round(k * (len(steps) - 1) / 4)] for k in range(5)})
    labels = {part: method.label for part, method in turns.methods.items()}
    rows = [
        [labels[part], *(f"{points[step]:.2f}" if step in points else "-" for step in chosen)]
        for part, points in found.apart.items()
    ]
    return markdown_table(["after iteration", *map(str, chosen)], rows)


def _by_term(
    table: Mapping[str, Mapping[str, Spread]], turns: Turns, terms: Sequence[str], signed: bool
) -> str:
    labels = {part: method.label for part, method in turns.methods.items()}
    rows = [
        [labels[part], *(values[term].text(3, signed) for term in terms)]
        for part, values in table.items()
    ]
    return markdown_table(["method", *terms], rows)


def _longer(found: Answers, terms: Sequence[str], turns: Turns) -> str:
    shortest, longest = min(turns.lengths), max(turns.lengths)
    lines = [
        f"- {part} minus turns of {shortest}: {_differences(values)}."
        for part, values in found.longer.items()
    ]
    said = "\n".join(lines) or "Only one length of turns was trained."
    return f"""{said}

A term's loss over a whole turn of the other one, as change of its logarithm (below 0: the other's
updates helped it), beside that over its own turn. Turns shorter than the log's interval hide it:

{_stretches(found, terms)}

The turns begin with {terms[0]}, so under turns of {longest} the learning rate's rise and fall meets
the terms unevenly."""


def _stretches(found: Answers, terms: Sequence[str]) -> str:
    header = ["turns", *(f"{t}, {whose} turn" for t in terms for whose in ("other's", "own"))]
    rows = [
        [part, *(x[part][term].text(3) for term in terms for x in (found.idle, found.own))]
        for part in found.idle
    ]
    return markdown_table(header, rows)


def _alone(found: Answers) -> str:
    return "\n".join(
        f"- {term} loss on the test split, trained together (`Sum`) minus alone: {value.text(4)}."
        for term, value in found.alone.items()
    )


def _further(found: Answers) -> str:
    """Further methods beside the shortest turns; beside the sum they are in the first table."""
    if not found.further:
        return ""
    lines = [
        f"- {part} minus the shortest turns: {_differences(values)}."
        for part, values in found.further.items()
    ]
    return "\n\n## Further methods\n\n" + "\n".join(lines)


def _places(outcomes: Sequence[Outcome]) -> str:
    """What was trained where, if that is more than one place."""
    text = places_text((o.place, f"{o.score.method}, seed {o.score.seed}") for o in outcomes)
    if not text:
        return ""
    return f"""## Trained by several states of the code, or on several machines

{text}

Differences and distances are of trainings of one place alone.

"""


def _as_dict(outcome: Outcome) -> dict[str, Any]:
    ends = {term: outcome.end_loss(term) for term in outcome.held_out}
    return dict(
        part=outcome.part,
        score=asdict(outcome.score),
        held_out=outcome.held_out,
        training_end=ends,
        run=outcome.run.as_dict(),
    )
