"""A diagnosis and the ledger: what is wanted, what came of it, and back to its report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date

from lossweave.studies.diagnose.asked import Asked
from lossweave.studies.diagnose.record import Record
from lossweave.studies.diagnose.report import write_diagnosis
from lossweave.studies.diagnose.verdict import diagnose
from lossweave.studies.ledger.facts import facts_of
from lossweave.studies.ledger.identity import (
    code_of_today,
    machine_of_today,
    without_harmless,
)
from lossweave.studies.ledger.result import Result
from lossweave.utils.provenance import versions

__all__ = ["STUDY", "filled", "record_of", "report", "wanted"]

#: The study's name in a ledger.
STUDY = "diagnose"


def wanted(asked: Asked, config_hash: str) -> Result:
    """What is asked for, by today's code on this machine.

    Args:
        asked: the diagnosis.
        config_hash: of its resolved config.
    """
    return Result(
        study=STUDY,
        config=asked.config,
        config_hash=config_hash,
        method=asked.method,
        seed=asked.seed,
        budget=dict(iterations=asked.limit or 0, interval=asked.interval),
        options=without_harmless(asked.options),
        code=code_of_today(),
        machine=machine_of_today(),
        command=asked.command,
        asked=asked.command,
        versions=versions(),
    )


def filled(asked: Result, record: Record) -> Result:
    """The result of a training that was looked at."""
    last = record.looks[-1]
    return replace(
        asked,
        date=date.today().isoformat(),
        losses=dict(zip(record.terms, last.values, strict=True)),
        seconds={**record.seconds},
        details=dict(record=record.as_dict()),
    )


def record_of(result: Result) -> Record:
    """What was seen in the training that a result is of."""
    return Record.from_dict(result.details["record"])


def report(results: Sequence[Result], work_dir: str) -> None:
    """Write the report of a ledger's last diagnosis."""
    last = results[-1]
    record = record_of(last)
    facts = facts_of([last], config=last.config, seed=last.seed, options=last.options)
    write_diagnosis(work_dir, record, diagnose(record), facts)
