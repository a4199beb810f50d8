"""Every term over its own value."""

from typing import Any

import pytest
import torch
from helpers.combiner_cases import Case, close, here
from torch import Tensor

from lossweave.combiners import Combiner, SelfNormalized, build_combiner
from lossweave.errors import LossweaveError


def _formula(combiner: Combiner, losses: Tensor) -> Tensor:
    return (losses / (losses.detach().abs() + 1e-6)).sum()


CASES = {"SelfNormalized": Case(lambda terms: {"eps": 1e-6}, formula=_formula, alone=0.4)}


def test_equals_the_formula_under_autograd() -> None:
    losses = torch.tensor([0.5, 4.0, 1e-3], requires_grad=True)
    expected = (losses / (losses.detach() + 0.1)).sum()
    expected.backward()
    value, weights = SelfNormalized(0.1).combine(losses.detach(), here())
    close(value, expected.detach())
    assert losses.grad is not None
    close(weights, losses.grad)


def test_without_eps_every_term_is_one() -> None:
    close(SelfNormalized().combine(torch.tensor([0.5, 4.0]), here(2)).value, 2.0)


def test_at_and_below_zero() -> None:
    value, weights = SelfNormalized(0.5).combine(torch.tensor([0.0, -1.5]), here(2))
    close(weights, [2.0, 0.5])
    close(value, -0.75)


@pytest.mark.parametrize(
    ("eps", "message"),
    [
        (0, "SelfNormalized: eps=0 should be finite and at least 1e-30"),
        (-1.0, "eps=-1.0 should be"),
        (1e-40, "eps=1e-40 should be"),
        (float("nan"), "eps=nan should be"),
        ("small", "eps='small' should be a number"),
    ],
)
def test_wrong_arguments(eps: Any, message: str) -> None:
    with pytest.raises(LossweaveError, match=message):
        build_combiner({"type": "SelfNormalized", "eps": eps})
