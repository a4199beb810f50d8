"""ReLoBRaLo against the paper's recursion, written out."""

from typing import Any

import pytest
import torch
from helpers.combiner_cases import Case, at, close, here, losses_at
from torch import Tensor

from lossweave.combiners import Combiner, ReLoBRaLo, build_combiner
from lossweave.errors import LossweaveError


def _formula(combiner: Combiner, losses: Tensor) -> Tensor:
    assert isinstance(combiner, ReLoBRaLo)
    return (_hats(combiner, losses.detach()) * losses).sum()


def _hats(combiner: ReLoBRaLo, losses: Tensor) -> Tensor:
    """The weights for these losses after those that the combiner has seen."""

    def hat(earlier: Tensor) -> Tensor:
        earlier = torch.where(earlier.isnan(), losses, earlier)  # the first update
        raw = (losses / (combiner.temperature * earlier)).exp()
        return len(losses) * raw / raw.sum()

    rho = 0.0 if combiner.looks_back() else 1.0
    kept = rho * combiner.lambdas + (1 - rho) * hat(combiner.first)
    return combiner.alpha * kept + (1 - combiner.alpha) * hat(combiner.last)


CASES = {
    "ReLoBRaLo": Case(
        lambda terms: {"temperature": 0.5, "alpha": 0.8, "rho": 0.7, "seed": 1},
        formula=_formula,
        unknown=("first", "last"),
        training={"alpha": 0.5},
    )
}


def _bound(**arguments: Any) -> ReLoBRaLo:
    combiner = ReLoBRaLo(**arguments)
    combiner.bind(("a", "b", "c"))
    return combiner


@pytest.mark.parametrize("rho", [0.0, 0.6, 1.0])
def test_equals_the_recursion(rho: float) -> None:
    own = _bound(temperature=0.4, alpha=0.9, rho=rho, seed=3)
    lambdas, history, looked = torch.ones(3), [], 0
    for t in range(40):
        losses = losses_at(t)
        own.begin(at(t))
        first, last = (history[0], history[-1]) if history else (losses, losses)
        hats = [3 * torch.softmax(losses / (0.4 * earlier), dim=0) for earlier in (first, last)]
        back = own.looks_back()
        looked += back
        lambdas = 0.9 * (hats[0] if back else lambdas) + 0.1 * hats[1]
        value, weights = own.combine(losses, here())
        close(weights, lambdas, rtol=1e-5)
        close(value, (lambdas * losses).sum(), rtol=1e-5)
        own.update(losses, here())
        history.append(losses)
    assert looked == {0.0: 40, 1.0: 0}.get(rho, looked) and (rho != 0.6 or 8 <= looked <= 24)


def test_weights_add_up_to_the_number_of_terms() -> None:
    own = _bound()
    for t in range(30):
        own.begin(at(t))
        close(own.combine(losses_at(t), here()).weights.sum(), 3.0, rtol=1e-5)
        own.update(losses_at(t), here())


def test_draws_follow_from_seed_and_update() -> None:
    def drawn(seed: int) -> list[bool]:
        own, found = _bound(rho=0.5, seed=seed), []
        for t in range(20):
            own.begin(at(t))
            found.append(own.looks_back())
        return found

    assert drawn(0) == drawn(0) != drawn(1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"temperature": 0.0}, "ReLoBRaLo: temperature=0.0 should be positive"),
        ({"alpha": 1.5}, "alpha=1.5 should be between 0 and 1"),
        ({"rho": -0.1}, "rho=-0.1 should be between 0 and 1"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(LossweaveError, match=message):
        build_combiner({"type": "ReLoBRaLo", **arguments})
