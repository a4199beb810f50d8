"""Terms at the size of a reference."""

from typing import Any

import pytest
import torch
from helpers.combiner_cases import TERMS, Case, close, here, reference
from torch import Tensor

from lossweave.combiners import Combiner, RatioAligned, build_combiner
from lossweave.errors import LossweaveError


def _formula(combiner: Combiner, losses: Tensor) -> Tensor:
    reference = losses[TERMS.index("b")]
    return reference + sum(
        losses[k] / (losses[k] / reference).detach() for k in range(3) if TERMS[k] != "b"
    )


CASES = {
    "RatioAligned": Case(lambda terms: {"reference": reference(terms)}, formula=_formula)
}


def _bound(reference: str | None = None, terms: tuple[str, ...] = ("a", "b", "c")) -> RatioAligned:
    combiner = RatioAligned(reference)
    combiner.bind(terms)
    return combiner


def test_equals_the_formula_under_autograd() -> None:
    losses = torch.tensor([2.0, 8.0, 0.5], requires_grad=True)
    expected = losses[1] + sum(losses[k] / (losses[k] / losses[1]).detach() for k in (0, 2))
    expected.backward()
    value, weights = _bound("b").combine(losses.detach(), here())
    close(value, expected.detach())
    assert losses.grad is not None
    close(weights, losses.grad)
    close(weights, [4.0, 1.0, 16.0])


def test_every_term_counts_as_much_as_the_first_by_default() -> None:
    value, weights = _bound().combine(torch.tensor([1.0, 4.0, 8.0]), here())
    assert value == 3 and weights.tolist() == [1, 0.25, 0.125]


@pytest.mark.parametrize(
    ("losses", "weights"),
    [
        ([2.0, 0.0, 4.0], [1.0, 1.0, 0.5]),  # a term at 0
        ([0.0, 3.0, 4.0], [1.0, 1.0, 1.0]),  # the reference at 0
        ([2.0, -4.0, 1.0], [1.0, 0.5, 2.0]),  # below 0 magnitudes count
        ([-2.0, 4.0, 1.0], [1.0, 0.5, 2.0]),
        ([1e30, 1e-30, 1.0], [1.0, torch.finfo(torch.float32).max, 1e30]),
    ],
)
def test_edges(losses: list[float], weights: list[float]) -> None:
    close(_bound().combine(torch.tensor(losses), here()).weights, weights)


def test_an_absent_reference_leaves_the_plain_sum() -> None:
    present = torch.tensor([False, True, True])
    value, weights = _bound().combine(torch.tensor([0.0, 3.0, 4.0]), present)
    assert value == 7 and weights.tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"reference": 3}, "RatioAligned: reference=3 should be a name or None"),
        ({"referense": "a"}, r"did you mean 'reference'\?"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(LossweaveError, match=message):
        build_combiner({"type": "RatioAligned", **arguments})


def test_an_unknown_reference() -> None:
    with pytest.raises(LossweaveError, match=r"RatioAligned: reference='z' is not one of .*'c'"):
        _bound("z")
