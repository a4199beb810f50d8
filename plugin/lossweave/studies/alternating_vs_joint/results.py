"""Alternating against joint training and the ledger: what is wanted, and back to runs."""

from collections.abc import Sequence
from dataclasses import replace

from lossweave.staged.record import TrainingRecord
from lossweave.studies.alternating_vs_joint.configs import StagedConfig
from lossweave.studies.alternating_vs_joint.findings import EQUAL, Run, Study, find
from lossweave.studies.alternating_vs_joint.report import write_study
from lossweave.studies.ledger.facts import facts_of
from lossweave.studies.ledger.identity import code_of_today, machine_of_today, without_harmless
from lossweave.studies.ledger.result import Code, Machine, Result, hashed
from lossweave.studies.runs.processes import threads_for

__all__ = ["STUDY", "filled", "report", "report_study", "run_of", "study_of", "wanted"]

#: The study's name in a ledger.
STUDY = "alternating_vs_joint"


def wanted(study: Study, read: StagedConfig, arm: str, seed: int) -> Result:
    """What the study asks for, by today's code on this machine."""
    options = without_harmless(study.options)
    return Result(
        study=STUDY,
        config=study.config,
        config_hash=hashed([read.told, sorted(options)]),
        method=arm,
        seed=seed,
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
    """The study that asks for just these results."""
    return Study(
        config=results[0].config,
        seeds=tuple(dict.fromkeys(result.seed for result in results)),
        work_dir=work_dir,
        jobs=max(result.details["jobs"] for result in results),
        options=results[0].options,
        equal=any(result.method == EQUAL for result in results),
        command=facts_of(results)["command"],
    )


def report_study(study: Study, results: Sequence[Result]) -> list[Run]:
    """Write the report of results.

    Args:
        study: what was asked for.
        results: what came of it.

    Returns:
        The trainings.
    """
    runs = [run_of(result) for result in results]
    facts = facts_of(
        results, config=study.config, seeds=study.seeds, options=study.options, jobs=study.jobs
    )
    write_study(study, runs, find(runs), facts)
    return runs


def report(results: Sequence[Result], work_dir: str) -> None:
    """Write the report of a ledger's results."""
    report_study(study_of(results, work_dir), results)
