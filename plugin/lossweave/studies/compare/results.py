"""A comparison and the ledger: what its results ask for, and where they come from."""

from collections.abc import Mapping, Sequence
from typing import Any

from lossweave.studies.compare.findings import Comparison, ComparisonFindings, find
from lossweave.studies.compare.rates import best_rates
from lossweave.studies.compare.report import write_comparison
from lossweave.studies.ledger.facts import facts_of
from lossweave.studies.ledger.result import Result
from lossweave.studies.runs.method import Method
from lossweave.studies.runs.results import score_of
from lossweave.studies.weights.report import write_weights

__all__ = ["STUDY", "comparison_of", "findings_of", "report_comparison"]

#: The study's name in a ledger.
STUDY = "compare"


def comparison_of(results: Sequence[Result], work_dir: str) -> Comparison:
    """The comparison that asks for just these results.

    Args:
        results: of one setting, in the order of a ledger.
        work_dir: where its report goes.
    """
    methods = dict.fromkeys(Method.parse(result.method) for result in results)
    first = results[0]
    rates = dict.fromkeys(r.rate for r in results if r.rate is not None and r.seed == first.seed)
    return Comparison(
        methods=tuple(methods),
        seeds=tuple(dict.fromkeys(result.seed for result in results)),
        config=first.config,
        work_dir=work_dir,
        options=first.options,
        command=facts_of(results)["command"],
        rates=tuple(rates),
    )


def findings_of(
    comparison: Comparison, results: Sequence[Result], chosen: Mapping[str, float] | None = None
) -> ComparisonFindings:
    """What results say; arguments as :func:`report_comparison`."""
    scores = [score_of(result) for result in results]
    if chosen is None:  # by the first seed, whose trainings are the sweep
        chosen = best_rates([score for score in scores if score.seed == comparison.seeds[0]])
    return find(comparison.methods, scores, chosen)


def report_comparison(
    comparison: Comparison, results: Sequence[Result], chosen: Mapping[str, float] | None = None
) -> None:
    """Write the report of results.

    Args:
        comparison: what was asked for.
        results: what came of it.
        chosen: by method, the rate that was chosen for it; None means to choose.
    """
    found = findings_of(comparison, results, chosen)
    facts: dict[str, Any] = facts_of(
        results,
        config=comparison.config,
        seeds=comparison.seeds,
        options=comparison.options,
    )
    write_comparison(comparison, found, facts)
    write_weights(found.compared, comparison.config, comparison.command, comparison.work_dir)
