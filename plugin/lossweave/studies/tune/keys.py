"""Which ``loss_weight`` keys of a config weigh which term: found out on one batch, not by name."""

from __future__ import annotations

import io
import logging
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from math import isclose
from typing import Any

import numpy as np
import torch

__all__ = [
    "PROBE",
    "Keys",
    "Response",
    "Scaling",
    "keys_of_terms",
    "probing",
    "response",
    "same_draws",
    "sums",
]

#: By what a key is multiplied to see what it weighs.
PROBE = 2.0
_NO_KEY = "has no loss_weight key"


@dataclass(frozen=True)
class Response:
    """What one key does.

    Args:
        path: the key's, in the config.
        value: as the config or the loss's default has it.
        factors: by raw loss, by how much it grew when the key was doubled.
    """

    path: str
    value: float
    factors: Mapping[str, float]


@dataclass(frozen=True)
class Scaling:
    r"""Where a config has what a factor of the whole loss can be moved into.

    SGD without clipping steps by :math:`\eta (c g + \lambda w)`, as it does with the rate
    :math:`c \eta`, the gradient :math:`g` and the decay :math:`\lambda / c`: momentum included, a
    loss that is :math:`c` times as large is another rate and decay, and nothing else.

    Args:
        rate: the learning rate's key.
        decays: by key of a weight decay, its value.
    """

    rate: str
    decays: Mapping[str, float]


@dataclass(frozen=True)
class Keys:
    """The terms, and where the config weighs them.

    Args:
        terms: by term, the keys that together weigh all of its losses; empty where there are
            none that do so and weigh nothing else.
        values: by key, what the config has.
        problems: for each term without keys, why.
        scaling: where a factor of all weights may go; None where nothing can take it.
    """

    terms: Mapping[str, tuple[str, ...]]
    values: Mapping[str, float]
    problems: Mapping[str, str]
    scaling: Scaling | None = None

    @property
    def complete(self) -> bool:
        """Whether every term has its keys."""
        return not self.problems

    @property
    def scaled(self) -> str | None:
        """The one term that has no key, and keeps its weight while the whole loss is scaled."""
        lacking = [term for term, why in self.problems.items() if why.endswith(_NO_KEY)]
        alone = len(lacking) == len(self.problems) == 1
        return lacking[0] if self.scaling and alone else None


def keys_of_terms(
    terms: Mapping[str, Sequence[str]],
    responses: Sequence[Response],
    losses: Mapping[str, float],
    scaling: Scaling | None = None,
) -> Keys:
    """Keys that together weigh all losses of a term, and nothing else, each loss once.

    Args:
        terms: by term, its raw losses.
        responses: what each key does.
        losses: the raw losses; one that is zero shows no response.
        scaling: of the config.

    Example:
        >>> response = Response("a.loss_weight", 1.0, {"loss_cls": 2.0, "loss_box": 1.0})
        >>> terms = {"cls": ["loss_cls"], "loc": ["loss_box"]}
        >>> keys = keys_of_terms(terms, [response], {"loss_cls": 1, "loss_box": 1})
        >>> keys.terms["cls"], keys.problems
        (('a.loss_weight',), {'loc': 'loss_box has no loss_weight key'})
    """
    found: dict[str, tuple[str, ...]] = {}
    problems: dict[str, str] = {}
    for term, names in terms.items():
        chosen: list[str] = []
        covered: set[str] = set()
        for response in responses:
            moved = {name for name, factor in response.factors.items() if factor != 1.0}
            exact = all(isclose(response.factors[name], PROBE, rel_tol=1e-3) for name in moved)
            if moved and exact and moved <= set(names) and not moved & covered:
                chosen.append(response.path)
                covered |= moved
        silent = [name for name in names if not losses.get(name)]
        missing = [name for name in names if name not in covered and name not in silent]
        if missing:
            problems[term] = f"{missing[0]} {_NO_KEY}"
        elif not chosen:
            problems[term] = f"{', '.join(names) or term} is zero in the first batch"
        found[term] = () if missing else tuple(chosen)
    return Keys(found, {one.path: one.value for one in responses}, problems, scaling)


def response(
    path: str, value: float, before: Mapping[str, float], after: Mapping[str, float]
) -> Response:
    """What a key does, from the losses before and after it was doubled.

    Args:
        path: the key's.
        value: before it was doubled.
        before: the raw losses.
        after: the same, of the same batch.

    Example:
        >>> response("a", 1.0, {"cls": 0.5, "loc": 3.0}, {"cls": 1.0, "loc": 3.0}).factors
        {'cls': 2.0, 'loc': 1.0}
    """
    factors = {loss: after[loss] / before[loss] for loss in before if before[loss]}
    moved = {loss: 1.0 if isclose(f, 1.0, rel_tol=1e-4) else f for loss, f in factors.items()}
    return Response(path, value, moved)


def sums(losses: Mapping[str, Any]) -> dict[str, float]:
    """The raw losses of a batch, each summed up; what is no loss is left out.

    Args:
        losses: as a detector returns them: tensors, or lists of those.
    """
    return {
        name: float(sum(float(part.mean()) for part in value))
        if isinstance(value, (list, tuple))
        else float(value.mean())
        for name, value in losses.items()
        if "loss" in name
    }


def same_draws() -> None:
    """Let the random choices of a forward be the same every time."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@contextmanager
def probing() -> Iterator[None]:
    """While models are built and looked at: no line a parameter or file, and no draw is used up."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with torch.random.fork_rng(), redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)
