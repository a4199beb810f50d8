"""Alternating against joint training and the ledger: what is wanted, and back to runs."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from lossweave.staged.record import TrainingRecord
from lossweave.studies.alternating_vs_joint.configs import StagedConfig
from lossweave.studies.alternating_vs_joint.findings import (
    EQUAL,
    JOINT,
    Findings,
    Run,
    Study,
    find,
    step4_of,
)
from lossweave.studies.alternating_vs_joint.lengths import find_lengths
from lossweave.studies.alternating_vs_joint.lengths_report import lengths_verdict, write_lengths
from lossweave.studies.alternating_vs_joint.report import write_study
from lossweave.studies.ledger.facts import facts_of
from lossweave.studies.ledger.identity import code_of_today, machine_of_today, without_harmless
from lossweave.studies.ledger.result import Code, Machine, Result, hashed
from lossweave.studies.report.paired import spread
from lossweave.studies.report.questions import Question, question_of
from lossweave.studies.runs.processes import threads_for

__all__ = [
    "STUDY",
    "alike",
    "filled",
    "questions",
    "report",
    "report_study",
    "run_of",
    "study_of",
    "wanted",
]

#: The study's name in a ledger.
STUDY = "alternating_vs_joint"
_ENDS = {
    1: "They end above it",
    -1: "They end below it",
    0: "That they end apart is not shown",
}
_STARTS = {1: "it ends above", -1: "it ends below", 0: "that it ends elsewhere is not shown"}


def wanted(
    study: Study, read: StagedConfig, arm: str, seed: int, budget: Mapping[str, int] | None = None
) -> Result:
    """What the study asks for, by today's code on this machine.

    Args:
        study: it.
        read: its config.
        arm: the way.
        seed: the seed.
        budget: of a length that is not the config's.
    """
    options = without_harmless(study.options)
    return Result(
        study=STUDY,
        config=study.config,
        config_hash=hashed([read.told, sorted(options)]),
        method=arm,
        seed=seed,
        budget=budget or {},
        options=options,
        code=code_of_today(),
        machine=machine_of_today(threads_for(study.jobs)),
        asked=study.command,
    )


def filled(asked: Result, run: Run, jobs: int, code: Code | None) -> Result:
    """The result of a finished training.

    Args:
        asked: what was wanted.
        run: what came of it.
        jobs: trainings that shared the machine.
        code: which code trained; None where that is not known.
    """
    record = run.record
    on = record.machine
    last = record.stages[-1].curve if record.stages else []
    return replace(
        asked,
        code=code or Code(record.versions.get("lossweave")),
        machine=Machine(
            cpu=on.get("cpu"),
            threads=on.get("torch_threads"),
            accelerator=on.get("accelerator"),
            cores=on.get("cores"),
            system=on.get("system"),
        ),
        date=record.date[:10],
        command=record.command,
        scores={name: run.final[name] for name in ("AP", "AP50") if name in run.final},
        losses=dict(last[-1].losses) if last else {},
        seconds={"training": record.training_seconds},
        versions=record.versions,
        details=dict(start=run.start, jobs=jobs, record=record.as_dict()),
    )


def run_of(result: Result) -> Run:
    """The training that a result is of."""
    record = TrainingRecord.from_dict(result.details["record"])
    return Run(result.method, result.seed, record, result.details["start"], result.place)


def study_of(results: Sequence[Result], work_dir: str) -> Study:
    """The study that asks for just these results; its lengths are those of the results."""
    return Study(
        config=results[0].config,
        seeds=tuple(dict.fromkeys(result.seed for result in results)),
        work_dir=work_dir,
        jobs=max(result.details["jobs"] for result in results),
        options=results[0].options,
        equal=any(result.method == EQUAL for result in results),
        step4=tuple(dict.fromkeys(s for r in results if (s := step4_of(r.method)) is not None)),
        command=facts_of(results)["command"],
    )


def alike(result: Result) -> Any:
    """What results of one report have in common: all but the length."""
    return result.config_hash or (result.config, result.options)


def report_study(study: Study, results: Sequence[Result]) -> list[Run]:
    """Write the report of results: of one length, or over several.

    Args:
        study: what was asked for.
        results: what came of it.

    Returns:
        The trainings.
    """
    groups = _by_length(results)
    runs = [run for group in groups for run in group]
    facts = facts_of(
        results, config=study.config, seeds=study.seeds, options=study.options, jobs=study.jobs
    )
    if len(groups) > 1:
        write_lengths(study, runs, find_lengths(groups), facts)
    else:
        write_study(study, runs, find(runs), facts)
    return runs


def report(results: Sequence[Result], work_dir: str) -> None:
    """Write the report of a ledger's results."""
    report_study(study_of(results, work_dir), results)


def questions(results: Sequence[Result], name: str) -> list[Question]:
    """The row of the table of questions that the results of a folder make."""
    groups = _by_length(results)
    if len(groups) > 1:
        over = find_lengths(groups)
        row = question_of(
            "Does the gap between four steps and joint training close with length?",
            name,
            "lengths",
            lengths_verdict(over),
            f"{over.slope.text()} AP a doubling",
            results,
        )
        return [row]
    found = find(groups[0])
    gap = found.differences.get(f"after step 4 - {JOINT}", {}).get("AP", spread([]))
    ratio = found.ratios.get(f"all steps / {JOINT}", spread([]))
    row = question_of(
        "Do four steps end where joint training does, at the papers' proportions?",
        name,
        STUDY,
        f"{_ENDS[gap.sign if gap.count > 1 else 0]}; they take {ratio.text(2, signed=False)} "
        "times as long.",
        f"{gap.text()} AP",
        results,
    )
    return [row, *_step4_rows(found, name, results)]


def _step4_rows(found: Findings, name: str, results: Sequence[Result]) -> list[Question]:
    rows = []
    for pair, metrics in found.differences.items():
        if (step4 := step4_of(pair.partition(" - ")[0])) is None:
            continue
        gap = metrics["AP"]
        answer = f"As {step4} starts it: {_STARTS[gap.sign if gap.count > 1 else 0]}."
        asked = "Does it matter where the RoI head of step 4 starts?"
        rows.append(question_of(asked, name, STUDY, answer, f"{gap.text()} AP", results))
    return rows


def _by_length(results: Sequence[Result]) -> list[list[Run]]:
    groups: dict[Any, list[Run]] = {}
    for result in results:
        groups.setdefault(tuple(sorted(result.budget.items())), []).append(run_of(result))
    return list(groups.values())
