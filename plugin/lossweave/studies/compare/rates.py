"""Learning rates chosen per method on the validation split, and where a sweep is too narrow."""

from collections.abc import Mapping, Sequence
from math import isfinite

from lossweave.errors import LossweaveError
from lossweave.mmdet.configs import load_config
from lossweave.studies.runs.method import RATE, Method, Score
from lossweave.studies.runs.training import parsed_options

__all__ = ["at_rates", "best_rates", "check_rates", "rate_edges", "weights_at_edge"]


def check_rates(rates: Sequence[float], config: str, options: Sequence[str]) -> None:
    """Refuse rates that cannot be swept over.

    Args:
        rates: as they were asked for.
        config: the config whose rate they replace.
        options: further ``--cfg-options``.

    Raises:
        LossweaveError: fewer than two rates, one that is not above 0 or is there twice, a
            config without a rate, or options that set it as well.
    """
    wrong = [rate for rate in rates if not (isfinite(rate) and rate > 0)]
    if wrong:
        raise LossweaveError(f"--rates: {wrong[0]:g} is not a learning rate above 0")
    if len(set(rates)) < len(rates):
        raise LossweaveError("--rates: a learning rate is given twice")
    if len(rates) < 2:
        raise LossweaveError(f"--rates: needs at least two; for one, --cfg-options {RATE}=...")
    if any(option.partition("=")[0] == RATE for option in options):
        raise LossweaveError(f"--rates and --cfg-options {RATE} exclude each other")
    if load_config(config).get("optim_wrapper", {}).get("optimizer", {}).get("lr") is None:
        raise LossweaveError(f"--rates: {config} has no {RATE}")


def best_rates(sweep: Sequence[Score]) -> dict[str, float]:
    """By method, the rate with the best AP on the validation split; of equal ones the smallest.

    Example:
        >>> best_rates([Score("Sum", 0, 0.3, 0.5, 0.9, rate=r) for r in (0.2, 0.1)])
        {'Sum': 0.1}
    """
    best: dict[str, tuple[float, float]] = {}
    for score in sweep:
        if score.rate is not None:
            found = (score.val, -score.rate)
            best[score.method] = max(found, best.get(score.method, found))
    return {method: -negative for method, (_, negative) in best.items()}


def at_rates(scores: Sequence[Score], chosen: Mapping[str, float]) -> list[Score]:
    """The scores of every method at its chosen rate, i.e. those that are compared."""
    return [score for score in scores if score.rate == chosen.get(score.method)]


def rate_edges(sweep: Sequence[Score], chosen: Mapping[str, float]) -> dict[str, str]:
    """The methods whose best rate is the ``'smallest'`` or the ``'largest'`` of theirs.

    Args:
        sweep: the scores at all rates.
        chosen: by method, its best rate.

    Example:
        >>> scores = [Score("Sum", 0, ap, 0.5, 0.9, rate=ap) for ap in (0.1, 0.2)]
        >>> rate_edges(scores, best_rates(scores))
        {'Sum': 'largest'}
    """
    edges = {}
    for method, best in chosen.items():
        rates = [s.rate for s in sweep if s.method == method and s.rate is not None]
        if len(set(rates)) > 1 and best in (min(rates), max(rates)):
            edges[method] = "smallest" if best == min(rates) else "largest"
    return edges


def weights_at_edge(methods: Sequence[Method], tuned: str) -> bool | None:
    """Whether some term's share of the tuned sum's weights is the largest or smallest tried.

    Args:
        methods: of the comparison; the sums among them are what was tried.
        tuned: the tuned sum's label.

    Returns:
        None where one weighting was tried only, or where weights are not lists of numbers.

    Example:
        >>> methods = [Method.parse(f"Sum weights=[{k},1]") for k in (1, 2, 4)]
        >>> [weights_at_edge(methods, method.label) for method in methods]
        [True, False, True]
    """
    given = {
        method.label: parsed_options(method.options).get("weights")
        for method in methods
        if method.combiner == "Sum"
    }
    lists = [weights for weights in given.values() if isinstance(weights, list)]
    if not lists:
        return None
    shares = {}
    for label, weights in given.items():
        if weights is None or isinstance(weights, (int, float)):
            weights = [1] * len(lists[0])  # all terms alike
        if not isinstance(weights, list) or len(weights) != len(lists[0]) or sum(weights) <= 0:
            return None
        shares[label] = tuple(weight / sum(weights) for weight in weights)
    if len(set(shares.values())) < 2:
        return None
    return any(
        share in (min(column), max(column)) and min(column) < max(column)
        for share, column in zip(shares[tuned], zip(*shares.values(), strict=True), strict=True)
    )
