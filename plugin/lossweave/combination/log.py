"""What logs get of an update's results."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from lossweave.combination.entries import sorted_into
from lossweave.combination.step import StepResult
from lossweave.combination.terms import TermMap
from lossweave.combination.tree import TermNode
from lossweave.combiners import Combiner

__all__ = ["entry_means", "log_values", "term_values"]


def term_values(
    results: Sequence[StepResult], node: TermNode, terms: TermMap
) -> dict[str, dict[str, float]]:
    """Value and weight of each term, the mean over an update's results. Synchronises.

    Args:
        results: at least one.
        node: whose results they are.
        terms: the names, and which losses belong to which.
    """
    found = [_one(result, node, terms) for result in results]
    return {
        name: {
            what: sum(one[what][k] for one in found) / len(found) for what in ("value", "weight")
        }
        for k, name in enumerate(terms.names)
    }


def log_values(
    last: Mapping[str, Mapping[str, float]], combiner: Combiner, suffix: str
) -> dict[str, float]:
    """What logs get: ``term_NAME`` and ``weight_NAME``, and the combiner's own measures.

    Args:
        last: as :func:`term_values` gives it.
        combiner: whose measures begin anew.
        suffix: added to every name.
    """
    values: dict[str, float] = {}
    for term, found in last.items():
        name = term.replace(".", "_") + suffix
        values[f"term_{name}"] = found["value"]
        values[f"weight_{name}"] = found["weight"]
    values.update({name + suffix: value for name, value in combiner.measures().items()})
    combiner.forget_measures()
    return values


def _one(result: StepResult, node: TermNode, terms: TermMap) -> dict[str, list[float]]:
    values, evaluation, weights = result.values, result.evaluation, result.weights
    if values is None or evaluation is None or weights is None:  # the framework's own sum
        found, _ = sorted_into(terms, result.entries)
        return {
            "value": [0.0 if x is None else x.item() for x in found],
            "weight": [0.0 if x is None else 1.0 for x in found],
        }
    both = torch.cat([values, weights.to(values)]).tolist()
    count = len(values)
    shown = {"value": both[:count], "weight": both[count:]}
    if result.applied.weights is not None:
        own = torch.tensor(result.applied.weights).to(values)
        known = node.spread(own, evaluation.parts).tolist()
        shown["weight"] = [
            0.0 if w == 0 else x for w, x in zip(shown["weight"], known, strict=True)
        ]
    return shown


def entry_means(results: Sequence[StepResult]) -> dict[str, Tensor]:
    """The mean of every raw loss over the results that have it."""
    names = dict.fromkeys(name for result in results for name in result.entries)
    means: dict[str, Tensor] = {}
    for name in names:
        values = [result.entries[name].float() for result in results if name in result.entries]
        means[name] = values[0] if len(values) == 1 else torch.stack(values).mean()
    return means
