"""Several combiners, several seeds: paired differences to the best sum, with intervals.

Every training is a ``tools/train.py`` of its own, so it can be repeated by hand; the methods
of one seed share initial weights and data order. The sums among the methods are the sweep
over its weights: the best of them on the validation split is the tuned sum, and what is
reported is measured on the test split. With learning rates to choose from, every method, the
sums included, has the rate that is best for it on the validation split.
"""

from collections.abc import Sequence
from functools import partial
from itertools import product

from lossweave.errors import LossweaveError
from lossweave.studies.compare.findings import Comparison
from lossweave.studies.compare.rates import best_rates, check_rates
from lossweave.studies.compare.results import STUDY, report_comparison
from lossweave.studies.ledger.book import Book
from lossweave.studies.ledger.result import Result
from lossweave.studies.runs.method import Method, Score, Trial
from lossweave.studies.runs.processes import run_all
from lossweave.studies.runs.results import obtained, score_of, wanted
from lossweave.studies.runs.training import serial_loading

__all__ = ["run_comparison"]

_Asked = Sequence[tuple[Method, int, float | None]]


def run_comparison(comparison: Comparison) -> list[Score]:
    """Train what the ledger lacks, evaluate, and write table, plot and record.

    Returns:
        One score per method and seed; of the first seed one per rate, where there are rates.
        With ``ledger.plan`` none: what is lacking is printed, and nothing is trained.

    Raises:
        LossweaveError: wrong input, or a training that failed (its log is named).
    """
    _check(comparison)
    book = Book(comparison.ledger, comparison.work_dir)
    if comparison.ledger.plan:
        print(_plan_text(comparison, book))
        return []
    results, chosen = _train(comparison, book)
    report_comparison(comparison, book.all_of(results), chosen)
    return [score_of(result) for result in results]


def _check(comparison: Comparison) -> None:
    if not any(method.combiner == "Sum" for method in comparison.methods):
        raise LossweaveError("a comparison needs at least one Sum among its methods")
    if len(set(comparison.methods)) < len(comparison.methods):
        raise LossweaveError("a method is named twice")
    if not comparison.seeds or comparison.jobs < 1:
        raise LossweaveError("a comparison needs a seed and at least one job at a time")
    if comparison.rates:
        check_rates(comparison.rates, comparison.config, comparison.options)


def _first(comparison: Comparison) -> _Asked:
    """What is asked for before any rate is chosen: all of it where there is none to choose."""
    if comparison.rates:
        swept = product(comparison.rates, _swept(comparison))
        return [(method, comparison.seeds[0], rate) for rate, method in swept]
    return [(method, seed, None) for seed, method in product(comparison.seeds, comparison.methods)]


def _swept(comparison: Comparison) -> list[Method]:
    """The methods that each have a learning rate chosen."""
    everything = comparison.rates_for == "all"
    return [method for method in comparison.methods if everything or method.combiner == "Sum"]


def _further(
    comparison: Comparison, sweep: Sequence[Result]
) -> tuple[list[tuple[Method, int, float | None]], dict[str, float | None]]:
    """What is asked for once the sweep over rates is there, and by method the rate chosen.

    Seed after seed, so that whatever is finished covers all methods.
    """
    scores = [score_of(result) for result in sweep]
    best = max(scores, key=lambda score: (score.val, -(score.rate or 0.0)))  # as of one method
    chosen = {method.label: best.rate for method in comparison.methods} | best_rates(scores)
    done = {(score.method, score.seed) for score in scores}
    every = product(comparison.seeds, comparison.methods)
    asked = [(m, seed, chosen[m.label]) for seed, m in every if (m.label, seed) not in done]
    return asked, chosen


def _train(comparison: Comparison, book: Book) -> tuple[list[Result], dict[str, float]]:
    """All results, and by method the learning rate chosen for it."""

    def run(asked: _Asked, what: str) -> list[Result]:
        trials = _trials(comparison, asked)
        work = [partial(obtained, book, STUDY, trial, comparison.command) for trial in trials]
        return run_all(work, comparison.jobs, what)

    if not comparison.rates:
        return run(_first(comparison), "trainings"), {}
    sweep = run(_first(comparison), "sweep over rates")
    asked, chosen = _further(comparison, sweep)
    rest = run(asked, "further trainings")
    return [*sweep, *rest], {label: rate for label, rate in chosen.items() if rate is not None}


def _trials(comparison: Comparison, asked: _Asked) -> list[Trial]:
    options = (*serial_loading(comparison.config), *comparison.options)
    return [
        Trial(method, seed, comparison.config, comparison.work_dir, options, comparison.jobs, rate)
        for method, seed, rate in asked
    ]


def _plan_text(comparison: Comparison, book: Book) -> str:
    def of(asked: _Asked) -> list[Result]:
        trials = _trials(comparison, asked)
        return [wanted(STUDY, trial, comparison.command) for trial in trials]

    first = of(_first(comparison))
    text = book.plan_text(first)
    if not comparison.rates:
        return text
    if not book.lacking(first):
        sweep = [known for one in first if (known := book.found(one)) is not None]
        asked, chosen = _further(comparison, sweep)
        rates = ", ".join(f"{label} {chosen[label]:g}" for label in chosen)
        return f"{text}\nthe rates that these choose: {rates}\n{book.plan_text(of(asked))}"
    asked = [
        (method, seed, comparison.rates[0])
        for seed, method in product(comparison.seeds, comparison.methods)
        if seed != comparison.seeds[0] or method not in _swept(comparison)
    ]
    time = book.time_text(of(asked))
    return f"{text}\nthen {len(asked)} more, at the rates that these choose{time}"
