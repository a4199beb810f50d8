"""How the tests make, feed and run every registered combiner of loss values.

What is special about one combiner is said by its own test, in ``CASES``: ``cases()`` has them all.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from helpers.gather import gathered, name_of
from lossweave.combiners import (
    Combined,
    Combiner,
    GradientCombiner,
    build_combiner,
    combiner_class,
    combiner_names,
)
from lossweave.progress import Progress

TERMS = ("a", "b", "c")
EPOCH = 4  # iterations

#: Numbers per term, for arguments.
SHARES = {"a": 0.5, "b": 0.3, "c": 0.2}
FACTORS = {"a": 1.0, "b": 2.0, "c": 0.5}


def those(values: Mapping[str, Any], terms: Sequence[str]) -> dict[str, Any]:
    """The entries of these terms, in their order."""
    return {term: values[term] for term in terms}


def reference(terms: Sequence[str]) -> str:
    """A term for arguments that name one."""
    return "b" if "b" in terms else terms[0]


@dataclass(frozen=True)
class Case:
    """One way to make a combiner, and where it differs from what holds for most.

    Args:
        arguments: those of its constructor for the given terms, a subset of TERMS in any order.
        formula: f(L), its constants detached, where the weights are not the value's derivative.
        alone: the weight of a single term that is 2.5; its value is then 2.5 times that.
        value_alone: whether that value holds.
        absent_as_if_never_there: with a term absent it is the combiner of the others.
        one_wins: only one term is trained at a time, by its value.
        drops_negative: a term below 0 is left out.
        overflows: the value of three losses at 1e15 is inf.
        by_position: draws follow the position of the terms.
        draws: numbers drawn on the host and sent to the device in every update.
        waits: the host waits for the device in every step, as documented.
        unknown: buffers in which nan stands for what is not known yet.
        forgets: buffers that an update without any term changes.
        many: its arguments for any number of terms.
        training: arguments that make its state move within a few iterations of a detector.
    """

    arguments: Callable[[Sequence[str]], dict[str, Any]] = lambda terms: {}
    formula: Callable[[Combiner, Tensor], Tensor] | None = None
    alone: float = 1.0
    value_alone: bool = True
    absent_as_if_never_there: bool = True
    one_wins: bool = False
    drops_negative: bool = False
    overflows: bool = False
    by_position: bool = False
    draws: int = 0
    waits: bool = False
    unknown: tuple[str, ...] = ()
    forgets: tuple[str, ...] = ()
    many: Callable[[Sequence[str]], dict[str, Any]] = lambda terms: {}
    training: Mapping[str, Any] = field(default_factory=dict)


def cases() -> dict[str, Case]:
    """All cases of combiners of loss values, by name."""
    return {name: case for name, case in gathered().items() if isinstance(case, Case)}


def registered() -> list[str]:
    """The package's own combiners of loss values (a test may have registered others)."""
    return [n for n in _own() if not issubclass(combiner_class(n), GradientCombiner)]


def registered_gradient() -> list[str]:
    """The package's own combiners of gradients; helpers/gradient_cases.py has their cases."""
    return [n for n in _own() if issubclass(combiner_class(n), GradientCombiner)]


def _own() -> list[str]:
    return [n for n in combiner_names() if combiner_class(n).__module__.startswith("lossweave.")]


def config(case: str, terms: Sequence[str] = TERMS) -> dict[str, Any]:
    return {"type": name_of(case), **cases()[case].arguments(terms)}


def make(case: str, terms: Sequence[str] = TERMS) -> Combiner:
    combiner = build_combiner(config(case, terms))
    combiner.bind(terms)
    combiner.begin(at(0))
    return combiner


def at(iteration: int, accumulation: int = 1) -> Progress:
    return Progress(iteration, accumulation, None, EPOCH)


def here(count: int = 3) -> Tensor:
    return torch.ones(count, dtype=torch.bool)


def losses_at(iteration: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Three positive losses that fall at different rates, of different sizes, with noise."""
    noise = torch.rand(3, generator=torch.Generator().manual_seed(iteration), dtype=torch.float64)
    rates = torch.tensor([0.9, 0.97, 1.02], dtype=torch.float64)
    sizes = torch.tensor([0.7, 13.0, 2.1], dtype=torch.float64)
    return (sizes * rates**iteration * (0.8 + 0.4 * noise)).to(dtype)


def step(
    combiner: Combiner, iteration: int, losses: Tensor, present: Tensor | None = None
) -> Combined:
    """One optimizer update, in the order of calls that a training step makes."""
    present = here(len(losses)) if present is None else present
    combiner.begin(at(iteration))
    result = combiner.combine(losses, present)
    combiner.update(losses, present)
    return result


def run(combiner: Combiner, start: int, stop: int) -> list[Combined]:
    return [step(combiner, t, losses_at(t)) for t in range(start, stop)]


def same(one: Sequence[Combined], other: Sequence[Combined]) -> bool:
    """Whether two runs are equal to the last bit."""
    return len(one) == len(other) > 0 and all(
        torch.equal(a.value, b.value) and torch.equal(a.weights, b.weights)
        for a, b in zip(one, other, strict=True)
    )


def close(actual: Any, expected: Any, **tolerance: float) -> None:
    """Assert equality within the tolerance of the expected type, or the one given."""
    if not isinstance(expected, Tensor):
        expected = torch.tensor(expected, dtype=actual.dtype)
    options = {"rtol": 1e-5, "atol": 1e-7, **tolerance} if tolerance else {}
    torch.testing.assert_close(actual, expected, **options)
