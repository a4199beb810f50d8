"""Short runs and the ledger: what is wanted, what came of it, and back to runs and report."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import date
from typing import Any

from lossweave.studies.ledger.facts import facts_of
from lossweave.studies.ledger.identity import code_of_today, config_hash, machine_of_today
from lossweave.studies.ledger.result import Result, hashed
from lossweave.studies.short_runs.findings import CONFIGS, ShortRun, ShortRuns
from lossweave.studies.short_runs.report import write_short_runs
from lossweave.utils.provenance import versions

__all__ = ["STUDY", "alike", "filled", "report", "run_of", "short_runs_of", "wanted"]

#: The study's name in a ledger.
STUDY = "short_runs"
_BOUNDARY = " boundary="


def wanted(short: ShortRuns, detector: str, method: str, config: Mapping[str, Any]) -> Result:
    """What the study asks for, by today's code on this machine.

    Args:
        short: the study.
        detector: its name.
        method: the combiner, with the boundary if the study names one.
        config: resolved, plain.
    """
    command = ["python tools/short_runs.py --combiners", method.split()[0], "--detectors", detector]
    command += [f"--iterations {short.iterations} --batch-size {short.batch_size}"]
    command += [f"--seed {short.seed}"]
    if short.boundary is not None:
        command.append(f"--boundary {short.boundary}")
    return Result(
        study=STUDY,
        config=CONFIGS[detector],
        config_hash=config_hash(config),
        method=method,
        seed=short.seed,
        budget=dict(iterations=short.iterations, batch_size=short.batch_size),
        code=code_of_today(),
        machine=machine_of_today(),
        command=" ".join(command),
        asked=short.command,
        details=dict(detector=detector),
        versions=versions(),
    )


def filled(asked: Result, run: ShortRun) -> Result:
    """The result of a training that ran to its end."""
    return replace(
        asked,
        date=date.today().isoformat(),
        losses={term: values[-1] for term, values in run.terms.items() if values},
        seconds={"training": run.seconds},
        details={**asked.details, "finite": run.finite, "terms": run.terms},
    )


def run_of(result: Result) -> ShortRun:
    """The training that a result is of."""
    terms = {
        term: [float("nan") if value is None else value for value in values]
        for term, values in result.details["terms"].items()
    }
    return ShortRun(
        detector=result.details["detector"],
        combiner=result.method.partition(" ")[0],
        terms=terms,
        finite=result.details["finite"],
        seconds=result.seconds["training"],
    )


def alike(result: Result) -> str:
    """What the runs of one report share, whatever detector and combiner."""
    return hashed([dict(result.budget), result.seed])


def short_runs_of(results: Sequence[Result], work_dir: str) -> ShortRuns:
    """The study that asks for just these results."""
    first = results[0]
    named = [r.method.partition(_BOUNDARY)[2] for r in results if _BOUNDARY in r.method]
    return ShortRuns(
        combiners=tuple(dict.fromkeys(result.method.partition(" ")[0] for result in results)),
        detectors=tuple(dict.fromkeys(result.details["detector"] for result in results)),
        iterations=first.budget["iterations"],
        batch_size=first.budget["batch_size"],
        boundary=named[0] if named else None,
        seed=first.seed,
        work_dir=work_dir,
        command=facts_of(results)["command"],
    )


def report(results: Sequence[Result], work_dir: str) -> None:
    """Write the report of results."""
    short = short_runs_of(results, work_dir)
    asked = {key: value for key, value in asdict(short).items() if key != "work_dir"}
    facts = facts_of(results, settings=asked)
    write_short_runs(short, [run_of(result) for result in results], facts)
