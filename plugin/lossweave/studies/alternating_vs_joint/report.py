"""The report of alternating against joint training: tables, verdicts, two pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lossweave.studies.alternating_vs_joint.findings import (
    ALTERNATING,
    EQUAL,
    JOINT,
    PAPER_PASSES,
    RECORD_RATIOS,
    UNDERTRAINED,
    Findings,
    Run,
    Study,
    step4_of,
)
from lossweave.studies.alternating_vs_joint.plots import plot_differences, plot_stages
from lossweave.studies.ledger.facts import places_text
from lossweave.studies.report.paired import Spread
from lossweave.studies.report.tables import counted, markdown_table, number, text_table
from lossweave.utils.files import write_json
from lossweave.utils.provenance import machine_line

__all__ = ["final_table", "places_of", "study_markdown", "verdict", "write_study"]

_NAMES = {
    ALTERNATING: "alternating",
    JOINT: "joint, the papers' budget",
    EQUAL: "joint, equal compute",
}
_MIB = 2**20


def _name(arm: str) -> str:
    step4 = step4_of(arm)
    return _NAMES[arm] if step4 is None else f"alternating, step 4 as {step4} starts it"


_START = {
    True: "Within a seed all trainings share data and initial weights (by their checksum).",
    False: "**The initial weights of a seed's trainings differ**, so they are not paired.",
    None: "Within a seed all trainings share the data and the seed of the initial weights.",
}


def write_study(
    study: Study, runs: Sequence[Run], found: Findings, facts: Mapping[str, Any]
) -> None:
    """Write ``alternating_vs_joint.json`` and ``.md`` with its pictures, and print the table.

    Args:
        study: what was asked for; its ``work_dir`` is written to.
        runs: the trainings.
        found: what they say.
        facts: where the numbers come from, as
            :func:`~lossweave.utils.provenance.provenance` has it.
    """
    folder = Path(study.work_dir)
    folder.mkdir(parents=True, exist_ok=True)
    results = dict(findings=asdict(found), runs=[_as_dict(run) for run in runs])
    write_json(folder / "alternating_vs_joint.json", {**facts, **results})
    plot_stages(runs, folder / "stages.png")
    plot_differences(runs, folder / "differences.png")
    (folder / "alternating_vs_joint.md").write_text(study_markdown(study, runs, found, facts))
    print(f"\n{text_table(*final_table(found))}\n\n{verdict(found)}\n")
    print(folder / "alternating_vs_joint.md")


def final_table(found: Findings) -> tuple[list[str], list[list[str]]]:
    """Header and rows: a way of training, AP and AP50 with sd, its time, memory and passes."""
    header = ["training", "seeds", "AP", "sd", "AP50", "sd", "minutes", "sd", "peak MiB"]
    header += ["image passes", "updates"]
    rows = []
    for arm, metrics in found.final.items():
        ap, ap50, seconds = metrics["AP"], metrics["AP50"], found.seconds[arm]
        rows.append(
            [
                _name(arm),
                str(ap.count),
                *(number(x) for x in (ap.mean, ap.sd, ap50.mean, ap50.sd)),
                *(number(x / 60, 1) for x in (seconds.mean, seconds.sd)),
                number(found.peaks[arm].mean / _MIB, 0),
                str(found.image_passes[arm]),
                str(found.optimizer_steps[arm]),
            ]
        )
    return header, rows


def verdict(found: Findings) -> str:
    """The difference in AP with its interval, the ratio of times, and what was undertrained."""
    parts = []
    for name, metrics in found.differences.items():
        if name.startswith("after step") and name.endswith(JOINT):
            parts.append(f"AP {_named(name)}: {metrics['AP'].text()} ({_reading(metrics['AP'])}).")
            break
    ratio = next((v for k, v in found.ratios.items() if k.endswith(f"/ {JOINT}")), None)
    if ratio is not None:
        parts.append(f"Time, alternating / joint: {_ratio(ratio)}.")
    parts += [
        f"{_named(name)}: {metrics['AP'].text()} AP ({_reading(metrics['AP'])})."
        for name, metrics in found.differences.items()
        if step4_of(name.partition(" - ")[0]) is not None
    ]
    parts += [
        f"**undertrained**: {_name(arm)} ended below AP50 {UNDERTRAINED} "
        f"(seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}), so its "
        "differences are those of a training cut short."
        for arm, seeds in found.undertrained.items()
    ]
    return "\n\n".join(parts)


def study_markdown(
    study: Study, runs: Sequence[Run], found: Findings, facts: Mapping[str, Any]
) -> str:
    """The report's text; its pictures lie beside it. Arguments as :func:`write_study`."""
    seeds = sorted({run.seed for run in runs})
    code = f"Code: {facts['code']}. " if "code" in facts else ""
    parts = [
        f"# Faster R-CNN, alternating against joint training: {counted(len(seeds), 'seed')}",
        verdict(found),
        markdown_table(*final_table(found)),
        f"Config: `{study.config}`. {_budgets(found)} Times are of training and proposal passes, "
        f"without evaluations. {_START[found.same_start]} "
        f"AP is COCO's{_split(runs)}, of the system as it stands. Below, "
        "differences are paired by seed, with Student's 95 % interval, "
        "which so few seeds leave wide.",
        "## Every seed\n\n" + _seed_table(runs),
        "## Differences\n\n"
        + markdown_table(
            ["difference", "seeds", "AP", "AP50", "in AP"],
            [
                [_named(k), str(v["AP"].count), *(v[m].text() for m in ("AP", "AP50")),
                 _reading(v["AP"])]
                for k, v in found.differences.items()
            ],
        )
        + "\n\n![Differences in AP, a dot per seed](differences.png)",
        "## The four steps\n\n" + _steps(found),
        "## The RPN's average recall\n\n" + _recall(found),
        "## Time, memory\n\n" + _costs(study, found),
        "![The stages on a time axis, with AP and recall](stages.png)",
        *places_of(runs),
        f"Command: `{study.command}`",
        f"Date: {facts['date']}. {code}Machine: {machine_line(facts['machine'])}; "
        f"{counted(study.jobs, 'training')} at a time. Every number and every training's own "
        "record are in `alternating_vs_joint.json`.",
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def places_of(runs: Sequence[Run]) -> list[str]:
    """What was trained where, if that is more than one place."""
    text = places_text((run.place, f"{_name(run.arm)}, seed {run.seed}") for run in runs)
    if not text:
        return []
    return [
        "## Trained by several states of the code, or on several machines\n\n"
        f"{text}\n\nDifferences and ratios are of trainings of one place alone."
    ]


def _split(runs: Sequence[Run]) -> str:
    named = {run.record.options.get("evaluation", {}).get("split") for run in runs}
    (split,) = named if len(named) == 1 else (None,)
    return f" on the {split} split" if split else ""


def _budgets(found: Findings) -> str:
    four, joint = found.image_passes[ALTERNATING], found.image_passes.get(JOINT)
    share = f", {found.frozen_passes} of them over a frozen backbone" if found.frozen_passes else ""
    text = (
        f"The alternating training makes {four} image passes{share}, and "
        f"{found.proposal_passes[ALTERNATING]} more in proposal passes"
    )
    if joint:
        text += f"; that is {four / joint:.2f} times the joint one's (py-faster-rcnn: "
        text += f"320k / 140k = {PAPER_PASSES:.2f})"
    text += "."
    if EQUAL in found.final:
        text += " At equal compute the joint training has as many image passes as the alternating."
    return text


def _seed_table(runs: Sequence[Run]) -> str:
    four = [run for run in runs if run.arm == ALTERNATING]
    names = [s.name for s in four[0].record.stages if "AP" in s.metrics]
    arms = list(dict.fromkeys(run.arm for run in runs if run.arm != ALTERNATING))
    header = ["seed", *(f"{m} after {n}" for n in names for m in ("AP", "AP50"))]
    header += [f"{m} {_name(arm)}" for arm in arms for m in ("AP", "AP50")]
    header += [f"minutes, {_name(arm)}" for arm in (ALTERNATING, *arms)]
    rows = []
    for run in sorted(four, key=lambda run: run.seed):
        stages = {stage.name: stage.metrics for stage in run.record.stages}
        others = {other.arm: other for other in runs if other.seed == run.seed}
        found = [stages.get(name, {}) for name in names]
        found += [others[arm].final if arm in others else {} for arm in arms]
        minutes = [
            number(others[arm].record.training_seconds / 60, 1) if arm in others else "-"
            for arm in (ALTERNATING, *arms)
        ]
        cells = [_get(metrics, m) for metrics in found for m in ("AP", "AP50")]
        rows.append([str(run.seed), *cells, *minutes])
    return markdown_table(header, rows)


def _steps(found: Findings) -> str:
    metrics = list(dict.fromkeys(m for values in found.steps.values() for m in values))
    rows = [
        [f"after {name}", *(_with_sd(values.get(m)) for m in metrics)]
        for name, values in found.steps.items()
    ]
    return (
        markdown_table(["", *metrics], rows)
        + "\n\nMean, and standard deviation over the seeds. After `rcnn1`, step 2, the system is "
        "two separate networks: proposals by that of `rpn1`, detections by that of `rcnn1`. After "
        "`rcnn2`, step 4, it is one."
    )


def _recall(found: Findings) -> str:
    metrics = [m for m in ("AR@100", "AR@300", "AR@1000") if m in found.recall]
    rows = []
    rpns = [name for name in found.steps if name.startswith("rpn")][:2]
    for name, when in zip(rpns, ("before step 3", "after step 3"), strict=False):
        rows.append([f"{when} (`{name}`)", *(_with_sd(found.steps[name].get(m)) for m in metrics)])
    if found.recall:
        rows.append(["after - before, 95 %", *(found.recall[m].text() for m in metrics)])
    for arm, values in found.joint_recall.items():
        if any(values[m].count for m in metrics):
            rows.append([_name(arm), *(_with_sd(values[m]) for m in metrics)])
    return markdown_table(["RPN", *metrics], rows) if metrics else "No recall was recorded."


def _costs(study: Study, found: Findings) -> str:
    header = ["training", "stage", "minutes", "sd", "proposals", "evaluation", "s / iteration"]
    rows = [
        [
            _name(arm),
            f"`{name}`",
            number(costs["training"].mean / 60, 2),
            number(costs["training"].sd / 60, 2),
            number(costs["proposals"].mean / 60, 2),
            number(costs["evaluation"].mean / 60, 2),
            number(costs["per iteration"].mean),
            number(costs["peak"].mean / _MIB, 0),
        ]
        for arm, stages in found.stages.items()
        for name, costs in stages.items()
    ]
    ratios = [[_named(name), _ratio(value)] for name, value in found.ratios.items() if value.count]
    low, high = RECORD_RATIOS
    return (
        markdown_table([*header, "peak MiB"], rows)
        + "\n\nMinutes of training, of the proposal pass after the stage, of evaluations.\n\n"
        + markdown_table(["time ratio, paired by seed", "mean, sd, range"], ratios)
        + f"\n\nOn record are {low:.2f} to {high:.2f} (Detectron, Detectron2: two unshared steps; "
        "mmdet v1; py-faster-rcnn says 1.5 for all four, the paper 1.33 to 2). "
        f"{_placed(found)}"
        + (
            f" {study.jobs} trainings shared the machine, so times are less sure than those of "
            "one at a time."
            if study.jobs > 1
            else ""
        )
    )


def _placed(found: Findings) -> str:
    low, high = RECORD_RATIOS
    texts = []
    for name, value in found.ratios.items():
        if name.endswith(f"/ {JOINT}") and "median" not in name and value.count:
            where = (
                "inside" if low <= value.mean <= high else "below" if value.mean < low else "above"
            )
            texts.append(f"{_named(name)} is {where} that range here, at {_ratio(value)}")
    return "; ".join(texts) + "." if texts else ""


def _ratio(value: Spread) -> str:
    if not value.count:
        return "-"
    if value.count < 2:
        return f"{value.mean:.2f} (one seed)"
    return f"{value.mean:.2f}, sd {value.sd:.2f}, {value.low:.2f} to {value.high:.2f}"


def _reading(value: Spread) -> str:
    if value.count < 2:
        return "one seed says nothing"
    return {
        1: "above 0 beyond the interval",
        -1: "below 0 beyond the interval",
        0: "no difference beyond the interval",
    }[value.sign]


def _named(name: str) -> str:
    for arm in (EQUAL, JOINT):  # the longer name first
        for sign in ("- ", "/ "):
            if name.endswith(sign + arm):
                name = name[: -len(arm)] + f"({_name(arm)})"
    first, _, second = name.partition(" - ")
    if step4_of(first) is not None:
        return f"({_name(first)}) - ({_name(second)})"
    return name.replace(f"{EQUAL} -", f"({_NAMES[EQUAL]}) -")


def _get(metrics: Mapping[str, float], name: str) -> str:
    return number(metrics.get(name, float("nan")))


def _with_sd(value: Spread | None) -> str:
    if value is None or not value.count:
        return "-"
    return number(value.mean) + (f" (sd {number(value.sd)})" if value.count > 1 else "")


def _as_dict(run: Run) -> dict[str, Any]:
    return dict(arm=run.arm, seed=run.seed, start=run.start, record=run.record.as_dict())
