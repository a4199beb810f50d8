"""The terms' gradients of one update, and the tables that are made of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lossweave.backward import inner_products
from lossweave.studies.diagnose.record import Table
from lossweave.studies.diagnose.thresholds import TINY

__all__ = ["Rows", "Steps", "added", "steps_of", "table_of", "zero_table"]

#: By the parameter's name, each term's gradient of it.
Rows = dict[str, dict[int, Tensor]]


class Steps(NamedTuple):
    """What an optimizer makes of the terms' gradients.

    Args:
        sgd: the table of gradients times learning rates.
        adam: of those over Adam's denominators: the optimizer's own, or such as Adam would have.
        effects: each term's change by the step that was made, to first order.
        grad: the squared length of the gradients that it was given, after clipping.
        tiny: the share of the parameters whose denominators feel Adam's epsilon.
        tables: of the gradients themselves, by parameter.
    """

    sgd: Table
    adam: Table
    effects: list[float]
    grad: float
    tiny: float
    tables: dict[str, Table]


def zero_table(count: int) -> Table:
    """No gradients at all."""
    return [[0.0] * count for _ in range(count)]


def added(*tables: Table) -> Table:
    """The sum of some tables.

    Example:
        >>> added([[1.0]], [[2.0]])
        [[3.0]]
    """
    return [[sum(entries) for entries in zip(*rows, strict=True)]
            for rows in zip(*tables, strict=True)]  # fmt: skip


def table_of(units: Sequence[Mapping[int, Tensor]], count: int) -> Table:
    """The K x K inner products of the terms' gradients of some tensors.

    Args:
        units: by tensor, the gradients by term; a term that is not there has none.
        count: number of terms K.

    Example:
        >>> table_of([{1: torch.tensor([3.0, 4.0])}], 2)
        [[0.0, 0.0], [0.0, 25.0]]
    """
    found = zero_table(count)
    there = sorted({k for unit in units for k in unit})
    if not there:
        return found
    place = {k: i for i, k in enumerate(there)}
    renamed = [{place[k]: row for k, row in unit.items()} for unit in units if unit]
    device = next(iter(renamed[0].values())).device
    products = inner_products(renamed, len(there), device).tolist()
    for i, row in zip(there, products, strict=True):
        for j, value in zip(there, row, strict=True):
            found[i][j] = value
    return found


def steps_of(
    optimizers: Iterable[Any],
    names: Mapping[int, str],
    rows: Rows,
    before: Mapping[str, Tensor],
    squares: dict[str, Tensor],
    looks: int,
    count: int,
) -> Steps:
    """What the optimizers made of an update's gradients, right after their step.

    Args:
        optimizers: of torch's kind.
        names: the parameters', by the ``id``.
        rows: the terms' gradients.
        before: the parameters as they were.
        squares: running means of the squared gradients over the looks, from which the
            denominators are made that Adam would have, where the optimizer has none. Moves on.
        looks: how many, with this one.
        count: number of terms K.
    """
    sgd, adam, effects = zero_table(count), zero_table(count), [0.0] * count
    tables: dict[str, Table] = {}
    grad, elements, tiny = 0.0, 0, 0
    for group, state, parameter in _stepped(optimizers):
        name = names.get(id(parameter), "")
        own = rows.get(name)
        if not own or parameter.grad is None:
            continue
        moved = parameter.detach() - before[name]
        both = table_of([{**own, count: moved, count + 1: parameter.grad}], count + 2)
        tables[name] = [row[:count] for row in both[:count]]
        effects = [effect + row[count] for effect, row in zip(effects, both, strict=False)]
        grad += both[count + 1][count + 1]
        rate = float(group.get("lr", 1.0))
        sgd = added(sgd, [[rate * rate * x for x in row] for row in tables[name]])
        root, epsilon = _root(state, group)
        if root is None:
            square = sum(own.values()).square()  # type: ignore[union-attr]
            mean = squares.setdefault(name, torch.zeros_like(square))
            mean += (square - mean) / looks
            root = mean.sqrt()
        else:
            tiny += int((root < TINY * epsilon).sum())
            elements += root.numel()
        scale = rate / (root + epsilon)
        adam = added(adam, table_of([{k: scale * row for k, row in own.items()}], count))
    return Steps(sgd, adam, effects, grad, tiny / elements if elements else 0.0, tables)


def _stepped(optimizers: Iterable[Any]) -> Iterator[tuple[Any, Any, Tensor]]:
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                yield group, optimizer.state.get(parameter, {}), parameter


def _root(state: Mapping[str, Any], group: Mapping[str, Any]) -> tuple[Tensor | None, float]:
    """The root of the mean squared gradient that the optimizer divides by, and its epsilon."""
    epsilon = float(group.get("eps", 1e-8))
    for name in ("max_exp_avg_sq", "exp_avg_sq", "square_avg"):
        square = state.get(name)
        if not isinstance(square, Tensor):
            continue
        if "betas" in group and "step" in state:
            square = square / (1 - group["betas"][1] ** float(state["step"]))
        return square.sqrt(), epsilon
    return None, epsilon
