"""Every report of a folder of results, from its ledgers alone."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

from lossweave.errors import LossweaveError
from lossweave.studies.alternating_vs_joint import results as alternating_vs_joint
from lossweave.studies.arms.report import alike as alike_arms
from lossweave.studies.box_losses import report as box_losses
from lossweave.studies.box_losses.study import STUDY as BOX_LOSSES
from lossweave.studies.compare import results as compare
from lossweave.studies.compare.evidence import Compared, write_evidence
from lossweave.studies.compare.questions import Answers, questions_of, write_questions
from lossweave.studies.compare.tiers import Tier, ranks_of, write_tiers
from lossweave.studies.diagnose import results as diagnose
from lossweave.studies.ledger.book import LEDGER_FILE
from lossweave.studies.ledger.ledger import read
from lossweave.studies.ledger.result import Result
from lossweave.studies.precision_recall import results as precision_recall
from lossweave.studies.regularisation import report as regularisation
from lossweave.studies.regularisation.study import STUDY as REGULARISATION
from lossweave.studies.report.questions import Question
from lossweave.studies.scale import report as scale
from lossweave.studies.scale.study import STUDY as SCALE
from lossweave.studies.short_runs import results as short_runs
from lossweave.studies.simulate import report as simulate
from lossweave.studies.tune import results as tune
from lossweave.studies.turns import results as turns

__all__ = ["REPORTS", "Report", "remake", "remake_all", "write_together"]

#: The findings of a study that trains no detector, and so has no ledger.
_SIMULATED = "simulate.json"


@dataclass(frozen=True)
class Report:
    """How a study's report is made.

    Args:
        write: from results, into a folder.
        alike: of a result, what has to be the same in all of them.
        questions: the rows that a folder's results make in the table of questions, by its
            name; None where the study has none of its own.
    """

    write: Callable[[Sequence[Result], str], None]
    alike: Callable[[Result], Any] = attrgetter("setting")
    questions: Callable[[Sequence[Result], str], Sequence[Question]] | None = None


def _compare(results: Sequence[Result], work_dir: str) -> None:
    compare.report_comparison(compare.comparison_of(results, work_dir), results)


#: By the study's name.
REPORTS = {
    alternating_vs_joint.STUDY: Report(
        alternating_vs_joint.report, alternating_vs_joint.alike, alternating_vs_joint.questions
    ),
    BOX_LOSSES: Report(box_losses.report, alike_arms, box_losses.questions),
    compare.STUDY: Report(_compare),
    diagnose.STUDY: Report(diagnose.report),
    precision_recall.STUDY: Report(
        precision_recall.report, precision_recall.alike, precision_recall.questions
    ),
    REGULARISATION: Report(regularisation.report, alike_arms, regularisation.questions),
    SCALE: Report(scale.report, alike_arms, scale.questions),
    short_runs.STUDY: Report(short_runs.report, short_runs.alike),
    tune.STUDY: Report(tune.report, tune.alike),
    turns.STUDY: Report(turns.report, questions=turns.questions),
}


def remake(paths: Sequence[str | Path], work_dir: str | Path) -> list[str]:
    """Make the report of the results in some ledgers.

    Args:
        paths: the ledgers, read as one.
        work_dir: where the report goes.

    Returns:
        What a reader of the ledgers should be told.

    Raises:
        LossweaveError: a line is no result, or they hold nothing, several studies, or one study
            of several settings, which are not to be compared.
    """
    named = ", ".join(map(str, paths))
    if missing := [path for path in paths if not Path(path).is_file()]:
        raise LossweaveError(f"there is no ledger {missing[0]}")
    reading = read(*paths)
    if not reading.results:
        raise LossweaveError(f"{named}: no results")
    studies = sorted({result.study for result in reading.results})
    if len(studies) > 1:
        raise LossweaveError(f"{named}: results of several studies ({', '.join(studies)})")
    if studies[0] not in REPORTS:
        raise LossweaveError(f"{named}: no report is known for the study {studies[0]!r}")
    report = REPORTS[studies[0]]
    _refuse_several_settings(named, reading.results, report)
    report.write(reading.results, str(work_dir))
    return list(reading.remarks)


def remake_all(root: str | Path) -> list[str]:
    """Make every report below a folder anew, each beside its ledger, and what they say together.

    Args:
        root: its folders with a ``ledger.jsonl`` are the studies.

    Returns:
        The remarks on all of them.

    Raises:
        LossweaveError: there is no ledger, or one of them has no report.
    """
    ledgers = sorted(Path(root).rglob(LEDGER_FILE))
    if not ledgers:
        raise LossweaveError(f"there is no {LEDGER_FILE} below {root}")
    remarks = [remark for ledger in ledgers for remark in remake([ledger], ledger.parent)]
    write_together(ledgers, root)
    return remarks


def write_together(ledgers: Sequence[Path], root: str | Path) -> None:
    """What the comparisons say together; of those of one setting the one with most rates.

    Args:
        ledgers: of all studies.
        root: where the table of questions and ``tiers.md`` go. Of a project's ``docs/results``
            the project's own pages have their tables, too.
    """
    by_setting: dict[Any, tuple[int, Tier, Answers]] = {}
    beside = {found for one in ledgers for found in one.parent.parent.glob(f"*/{_SIMULATED}")}
    others = [
        simulate.question(json.loads(record.read_text()), record.parent.name)
        for record in sorted(beside)
    ]
    for ledger in ledgers:
        results = read(ledger).results
        if (asks := REPORTS[results[0].study].questions) is not None:
            others += asks(results, ledger.parent.name)
        if results[0].study == compare.STUDY:
            comparison = compare.comparison_of(results, str(ledger.parent))
            found = compare.findings_of(comparison, results)
            name, rates = ledger.parent.name, len(comparison.rates)
            tier = Tier.of(name, comparison.config, found, results)
            if rates > by_setting.get(tier.setting, (-1,))[0]:
                answers = Answers(name, comparison.command, found, results)
                by_setting[tier.setting] = (rates, tier, answers)
    tiers = [tier for _, tier, _ in by_setting.values()]
    write_tiers(tiers, root)
    if by_setting or others:
        compared = questions_of([a for _, _, a in by_setting.values()], ranks_of(tiers))
        write_questions([*compared, *others], root)
    evidence = [Compared(tier, answers.found) for _, tier, answers in by_setting.values()]
    write_evidence(evidence, root, _pages(Path(root)))


def _pages(root: Path) -> list[Path]:
    """The pages that say what the comparisons below a folder found."""
    pages = [root / "README.md"]
    if root.resolve().parts[-2:] == ("docs", "results"):
        docs = root.parent
        pages += [docs / "guides" / "which_weights.md", docs.parent / "README.md"]
    return pages


def _refuse_several_settings(named: str, results: Sequence[Result], report: Report) -> None:
    by_setting: dict[Any, list[Result]] = {}
    for result in results:
        by_setting.setdefault(report.alike(result), []).append(result)
    if len(by_setting) > 1:
        said = "; ".join(
            f"{len(found)} of {found[0].config}"
            f" ({' '.join(found[0].options) or 'no options'}, config {found[0].config_hash})"
            for found in by_setting.values()
        )
        raise LossweaveError(f"{named}: results that are not to be compared: {said}")
