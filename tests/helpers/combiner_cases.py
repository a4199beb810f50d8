"""How the tests make, feed and run every registered combiner of loss values."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

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

_SHARES = {"a": 0.5, "b": 0.3, "c": 0.2}
_FACTORS = {"a": 1.0, "b": 2.0, "c": 0.5}


def _those(values: Mapping[str, Any], terms: Sequence[str]) -> dict[str, Any]:
    return {term: values[term] for term in terms}


def _reference(terms: Sequence[str]) -> str:
    return "b" if "b" in terms else terms[0]


#: Per case, its arguments for the given terms (a subset of TERMS, in any order); a case is
#: named by its combiner, or by its combiner and what is special about it.
CASES: dict[str, Callable[[Sequence[str]], dict[str, Any]]] = {
    "Alternating": lambda terms: {"schedule": _those({"a": 1, "b": 2, "c": 1}, terms)},
    "Alternating epoch zero": lambda terms: {"unit": "epoch", "inactive": "zero",
                                             "schedule": _those({"a": 1, "b": 1, "c": 1}, terms)},
    "AutoLoss": lambda terms: {"lr": 0.1, "episode": 3},
    "AutoLoss joint hold": lambda terms: {"joint": True, "inactive": "hold", "lr": 0.1,
                                          "episode": 3, "objective": _those(_FACTORS, terms)},
    "Convex": lambda terms: {
        "alpha": [_SHARES[t] / sum(_those(_SHARES, terms).values()) for t in terms]
    },
    "DWA": lambda terms: {"temperature": 1.5, "period": 2},
    "DWA epoch": lambda terms: {"temperature": 0.5},
    "FAMO": lambda terms: {"lr": 0.1, "min_losses": _those({"a": 0.0, "b": 0.0, "c": 0.0}, terms)},
    "GeometricMean": lambda terms: {},
    "IMTLL": lambda terms: {"lr": 0.05},
    "LpNorm": lambda terms: {"p": 3.0},
    "MagnitudeMatched": lambda terms: {"reference": _reference(terms), "updates": 3},
    "Max": lambda terms: {},
    "Min": lambda terms: {},
    "Product": lambda terms: {},
    "RandomWeighting": lambda terms: {"seed": 3},
    "RatioAligned": lambda terms: {"reference": _reference(terms)},
    "STCH": lambda terms: {"mu": 0.5, "weights": _those(_SHARES, terms),
                           "reference": _those({"a": 0.1, "b": 0.0, "c": 0.2}, terms)},
    "SelfNormalized": lambda terms: {"eps": 1e-6},
    "SquaredSum": lambda terms: {},
    "Sum": lambda terms: {"weights": _those(_FACTORS, terms)},
    "UncertaintyWeighting": lambda terms: {"lr": 0.05, "init": 0.2},
}


def registered() -> list[str]:
    """The package's own combiners of loss values (a test may have registered others)."""
    return [n for n in _own() if not issubclass(combiner_class(n), GradientCombiner)]


def registered_gradient() -> list[str]:
    """The package's own combiners of gradients; their cases are in support_gradient.py."""
    return [n for n in _own() if issubclass(combiner_class(n), GradientCombiner)]


def _own() -> list[str]:
    return [n for n in combiner_names() if combiner_class(n).__module__.startswith("lossweave.")]


def name_of(case: str) -> str:
    return case.split(" ")[0]


def config(case: str, terms: Sequence[str] = TERMS) -> dict[str, Any]:
    return {"type": name_of(case), **CASES[case](terms)}


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
