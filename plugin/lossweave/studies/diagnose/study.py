"""A diagnosis from its question to its report: one plain training, or one a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from lossweave.errors import LossweaveError
from lossweave.host.lock import locked
from lossweave.studies.diagnose.asked import STILL, Asked
from lossweave.studies.diagnose.record import Record
from lossweave.studies.diagnose.report import write_diagnosis
from lossweave.studies.diagnose.results import filled, report, wanted
from lossweave.studies.diagnose.session import Session
from lossweave.studies.diagnose.verdict import diagnose
from lossweave.studies.frameworks import framework_module
from lossweave.studies.ledger.book import Book
from lossweave.studies.ledger.facts import facts_of

__all__ = ["merged", "run_diagnosis", "watch_training"]

_PACKAGE = "lossweave.studies.diagnose"


def run_diagnosis(asked: Asked) -> None:
    """Train what the ledger lacks, look at it, and write the report.

    Raises:
        LossweaveError: wrong input.
        KeyboardInterrupt: somebody asked to stop; the report of what was seen is written.
    """
    ours = wanted(asked, framework_module(asked.config, _PACKAGE).identity(asked))
    with locked(asked.folder):
        book = Book(asked.ledger, asked.folder)
        if asked.ledger.plan:
            print(book.plan_text([ours]))
            return
        known = book.found(ours)
        if known is not None:
            print(f"{', '.join(book.paths)} has it: trained {known.date}, {known.place}")
            report([known], str(asked.folder))
            return
        record = watch_training(asked)
        result = filled(ours, record)
        if record.interrupted:
            write_diagnosis(asked.folder, record, diagnose(record), facts_of([result]))
            raise KeyboardInterrupt
        report([book.add(result)], str(asked.folder))


def watch_training(asked: Asked) -> Record:
    """Train, and look at it.

    Raises:
        LossweaveError: wrong input, or a training without a look.
        KeyboardInterrupt: somebody asked to stop before the first look.
    """
    adapter = framework_module(asked.config, _PACKAGE)
    records: list[Record] = []
    for checkpoint in asked.checkpoints or (None,):
        session = Session(partial(asked.plan, checkpoint), asked.limit, STILL)
        interrupted = False
        try:
            adapter.train(asked, checkpoint, session)
        except KeyboardInterrupt:
            interrupted = True
        record = session.record(interrupted)
        if record is not None:
            records.append(record)
        if interrupted:
            if not records:
                raise KeyboardInterrupt
            return replace(merged(records), interrupted=True)
    if not records:
        raise LossweaveError(f"{asked.config}: the training ended before the first look")
    return merged(records)


def merged(records: Sequence[Record]) -> Record:
    """The records of several trainings as one.

    Raises:
        LossweaveError: their terms are not the same.
    """
    first = records[0]
    for other in records:
        if other.terms != first.terms:
            raise LossweaveError(
                f"the trainings have other terms: {', '.join(first.terms)} and "
                f"{', '.join(other.terms)}"
            )
    return replace(
        first,
        looks=[look for record in records for look in record.looks],
        means={stage: means for record in records for stage, means in record.means.items()},
        reached={
            part: [t for t in first.terms if any(t in record.reached[part] for record in records)]
            for part in first.reached
        },
        iterations=sum(record.iterations for record in records),
        seconds={
            what: sum(record.seconds[what] for record in records) for what in first.seconds
        },
        interrupted=any(record.interrupted for record in records),
    )
