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
from lossweave.studies.compare.findings import Comparison, find
from lossweave.studies.compare.rates import best_rates, check_rates
from lossweave.studies.compare.report import write_comparison
from lossweave.studies.runs.method import Method, Score, Trial
from lossweave.studies.runs.processes import run_all
from lossweave.studies.runs.training import serial_loading, train_and_test
from lossweave.utils.provenance import provenance

__all__ = ["run_comparison"]


def run_comparison(comparison: Comparison) -> list[Score]:
    """Train what is not trained yet, evaluate, and write table, plot and record.

    Returns:
        One score per method and seed; of the first seed one per rate, where there are rates.

    Raises:
        LossweaveError: wrong input, or a training that failed (its log is named).
    """
    _check(comparison)
    scores, chosen = _train(comparison)
    found = find(comparison.methods, scores, chosen)
    facts = provenance(
        comparison.command,
        config=comparison.config,
        seeds=comparison.seeds,
        options=comparison.options,
    )
    write_comparison(comparison, found, facts)
    return scores


def _check(comparison: Comparison) -> None:
    if not any(method.combiner == "Sum" for method in comparison.methods):
        raise LossweaveError("a comparison needs at least one Sum among its methods")
    if len(set(comparison.methods)) < len(comparison.methods):
        raise LossweaveError("a method is named twice")
    if not comparison.seeds or comparison.jobs < 1:
        raise LossweaveError("a comparison needs a seed and at least one job at a time")
    if comparison.rates:
        check_rates(comparison.rates, comparison.config, comparison.options)


def _train(comparison: Comparison) -> tuple[list[Score], dict[str, float]]:
    """All scores, and by method the learning rate chosen for it."""
    options = (*serial_loading(comparison.config), *comparison.options)

    def run(asked: Sequence[tuple[Method, int, float | None]], what: str) -> list[Score]:
        work = [
            partial(
                train_and_test,
                Trial(
                    method, seed, comparison.config, comparison.work_dir,
                    options, comparison.jobs, rate,
                ),
            )
            for method, seed, rate in asked
        ]  # fmt: skip
        return run_all(work, comparison.jobs, what)

    if not comparison.rates:
        every = product(comparison.seeds, comparison.methods)
        return run([(method, seed, None) for seed, method in every], "trainings"), {}
    first, *others = comparison.seeds
    every_rate = product(comparison.rates, comparison.methods)
    sweep = run([(method, first, rate) for rate, method in every_rate], "sweep over rates")
    chosen = best_rates(sweep)
    every = product(others, comparison.methods)
    rest = run([(method, seed, chosen[method.label]) for seed, method in every], "further seeds")
    return [*sweep, *rest], chosen
