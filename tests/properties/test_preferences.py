"""``prefer`` over every combiner: a larger share of a term gives it a larger share of the step, or
is refused in one line."""

from typing import Any

import pytest
import torch
from helpers.combiner_cases import registered, registered_gradient
from torch import Tensor

from lossweave.combination import build_combination
from lossweave.combiners import build_combiner, combiner_class
from lossweave.errors import LossweaveError
from lossweave.progress import Progress

#: Arguments with which a combiner's state moves within a few updates.
MOVES: dict[str, dict[str, Any]] = {
    "DWA": {"period": 2},
    "FAMO": {"lr": 0.3},
    "GradNorm": {"lr": 0.1},
    "ReLoBRaLo": {},
}
EVERY = [*registered(), *registered_gradient()]
REFUSING = {"AutoLoss", "Alternating", "COSMOS", "Min", "PBI", "PCD"}
HONOURING = [name for name in EVERY if name not in REFUSING]
TERMS = {"a": "loss_a", "b": "loss_b"}
UPDATES = 12


def _steps(name: str, prefer: Any, terms: Any = None) -> tuple[list[Tensor], list[Tensor]]:
    """The combined gradients of some updates on two bowls, and the terms' own directions."""
    config = {"type": name, **MOVES.get(name, {}), **({} if prefer is None else {"prefer": prefer})}
    combination = build_combination(config, terms or TERMS)
    w = torch.zeros(8, dtype=torch.float64, requires_grad=True)
    aims = torch.eye(8, dtype=torch.float64)[:2] + 0.3
    steps, directions = [], []
    for t in range(UPDATES):
        combination.set_progress(Progress(t, 1, UPDATES, 4))
        losses = {f"loss_{n}": (w - aim).square().sum() for n, aim in zip("ab", aims, strict=True)}
        rows = [torch.autograd.grad(x, w, retain_graph=True)[0] for x in losses.values()]
        w.grad = None
        combination(losses).backward()
        combination.end_iteration()
        if combination.recomputes:
            combination.relearn(losses)
        assert w.grad is not None
        steps.append(w.grad.clone())
        directions.append(torch.stack([row / row.norm() for row in rows]))
        with torch.no_grad():
            w -= 0.002 * w.grad / w.grad.norm()
    return steps, directions


def _share(name: str, prefer: Any, terms: Any = None) -> float:
    """Term a's part of the steps, each written as a combination of the terms' directions."""
    total = torch.zeros(2, dtype=torch.float64)
    for step, units in zip(*_steps(name, prefer, terms), strict=True):
        total += torch.linalg.lstsq(units.T, step[:, None]).solution[:, 0]
    return float(total[0] / total.sum())


def test_which_can() -> None:
    refusing = {n for n in EVERY if combiner_class(n).preference.where == "no"}
    assert refusing == REFUSING and len(HONOURING) >= 35


@pytest.mark.parametrize("name", HONOURING)
def test_a_larger_share_pulls_more(name: str) -> None:
    equal, more, less = (_share(name, p) for p in ([1, 1], {"b": 1, "a": 2}, {"a": 1, "b": 2}))
    assert less < equal < more or (name == "Max" and less < more)


@pytest.mark.parametrize("name", HONOURING)
def test_shares_and_importances_are_one_thing_and_equal_ones_change_nothing(name: str) -> None:
    importances, shares = _steps(name, {"a": 3, "b": 1})[0], _steps(name, [0.75, 0.25])[0]
    assert all(torch.equal(one, other) for one, other in zip(importances, shares, strict=True))
    tolerance = 1e-3 if name in ("NashMTL", "CAGrad", "FairGrad") else 1e-6  # other solvers
    for one, other in zip(_steps(name, [5, 5])[0], _steps(name, None)[0], strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance * one.norm().item())


@pytest.mark.parametrize("name", sorted(REFUSING))
def test_what_cannot_says_so_in_one_line(name: str) -> None:
    with pytest.raises(LossweaveError, match=f"^{name} cannot honour prefer: .*; give|^Min ") as e:
        build_combiner({"type": name, "prefer": {"a": 2.0, "b": 1.0}})
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("name", ["Sum", "MGDA", "NashMTL"])
@pytest.mark.parametrize(
    ("prefer", "message"),
    [
        ({"a": 1.0, "z": 1.0}, "prefer='z' is not one of the terms"),
        ({"a": 1.0}, "prefer lacks the terms"),
        ([1.0], "prefer has 1 entries for the 2 terms"),
        ([1.0, 0.0], "should be positive for every term"),
        (2.0, "prefer=2.0 should be"),
        ({"a": float("inf"), "b": 1.0}, "prefer=.* should be"),
    ],
)
def test_wrong_importances(name: str, prefer: Any, message: str) -> None:
    with pytest.raises(LossweaveError, match=message):
        build_combination({"type": name, "prefer": prefer}, TERMS)


def test_a_name_that_is_nearly_right() -> None:
    with pytest.raises(LossweaveError, match=r"no argument 'prefers'.*did you mean 'prefer'"):
        build_combiner({"type": "MGDA", "prefers": [1, 2]})


@pytest.mark.parametrize("outer", ["Sum", "UWSO", "PCGrad"])
@pytest.mark.parametrize("inner", ["Sum", "LpNorm", "GeometricMean"])
def test_nested(outer: str, inner: str) -> None:
    def terms(prefer: Any) -> dict[str, Any]:
        node = {"type": inner, **({} if prefer is None else {"prefer": prefer})}
        own = {"a": "loss_a", "b": "loss_b"}
        return {"both": dict(combiner=node, terms=own)}

    assert _share(outer, None, terms({"a": 2, "b": 1})) > _share(outer, None, terms(None))


def test_prefer_multiplies_what_the_method_has_of_its_own() -> None:
    combiner = build_combiner({"type": "Sum", "weights": [1.0, 2.0], "prefer": [2.0, 1.0]})
    combiner.bind(("a", "b"))
    _, weights = combiner.combine(torch.ones(2), torch.tensor([True, True]))
    torch.testing.assert_close(weights, torch.tensor([4 / 3, 4 / 3]))
