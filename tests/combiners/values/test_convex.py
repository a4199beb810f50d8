"""The convex combination."""

from typing import Any

import pytest
import torch
from helpers.combiner_cases import SHARES, Case, close, here, those

from lossweave.combiners import Convex, build_combiner
from lossweave.errors import LossweaveError

CASES = {
    "Convex": Case(
        lambda terms: {"alpha": [SHARES[t] / sum(those(SHARES, terms).values()) for t in terms]},
        absent_as_if_never_there=False,  # its share is left unused
        many=lambda terms: {"alpha": [1 / len(terms)] * len(terms)},
    )
}


@pytest.mark.parametrize(
    ("alpha", "losses", "value", "weights"),
    [
        (0.25, [4.0, 8.0], 7.0, [0.25, 0.75]),
        (0.0, [4.0, 8.0], 8.0, [0.0, 1.0]),
        (1, [4.0, 8.0], 4.0, [1.0, 0.0]),
        ([0.5, 0.25, 0.25], [2.0, 4.0, 8.0], 4.0, [0.5, 0.25, 0.25]),
        (0.3, [5.0], 5.0, [1.0]),
    ],
)
def test_formula(alpha: Any, losses: list[float], value: float, weights: list[float]) -> None:
    combiner = Convex(alpha)
    combiner.bind(tuple("abc"[: len(losses)]))
    result = combiner.combine(torch.tensor(losses), here(len(losses)))
    close(result.value, value)
    close(result.weights, weights)


def test_an_absent_term_leaves_its_share_unused() -> None:
    combiner = Convex(0.25)
    combiner.bind(("a", "b"))
    value, weights = combiner.combine(torch.tensor([4.0, 0.0]), torch.tensor([True, False]))
    assert value == 1 and weights.tolist() == [0.25, 0]


@pytest.mark.parametrize("alpha", [-0.1, 1.1, [0.5, 0.6], [1.5, -0.5], float("nan"), []])
def test_shares_that_are_none(alpha: Any) -> None:
    with pytest.raises(LossweaveError, match=r"Convex: alpha=.* (a share in \[0, 1\]|be a finite)"):
        Convex(alpha)


@pytest.mark.parametrize("alpha", ["half", True, [0.5, "x"], None])
def test_ill_typed(alpha: Any) -> None:
    with pytest.raises(LossweaveError, match=r"Convex: alpha=.* should be a number or a list of"):
        build_combiner({"type": "Convex", "alpha": alpha})


def test_shares_for_other_terms() -> None:
    with pytest.raises(LossweaveError, match=r"alpha has 2 shares for the 3 terms"):
        Convex(0.5).bind(("a", "b", "c"))
