"""Soft optimal uncertainty weights: worked values, the limits of its temperature."""

import math

import pytest
import torch
from helpers.combiner_cases import Case, close, here
from torch import Tensor

from lossweave.combiners import UWSO, Combiner, build_combiner
from lossweave.errors import LossweaveError


def _formula(combiner: Combiner, losses: Tensor) -> Tensor:
    return (torch.softmax(1 / losses / 0.7, dim=0).detach() * losses).sum()


CASES = {"UWSO": Case(lambda terms: {"temperature": 0.7}, formula=_formula, drops_negative=True)}


def test_worked_example() -> None:
    value, weights = UWSO(temperature=2.0).combine(torch.tensor([0.5, 1.0, 2.0]), here())
    raw = [math.exp(1.0), math.exp(0.5), math.exp(0.25)]
    expected = [x / sum(raw) for x in raw]
    close(weights, expected)
    close(value, 0.5 * expected[0] + expected[1] + 2 * expected[2])


def test_from_the_smallest_loss_to_the_mean() -> None:
    losses = torch.tensor([0.5, 1.0, 2.0])
    close(UWSO(temperature=1e-3).combine(losses, here()).weights, [1.0, 0.0, 0.0])
    close(UWSO(temperature=1e6).combine(losses, here()).weights, [1 / 3] * 3, rtol=1e-4)


def test_a_term_at_zero_does_not_take_all() -> None:
    weights = UWSO().combine(torch.tensor([0.0, 1.0, 2.0]), here()).weights
    alone = UWSO().combine(torch.tensor([1.0, 2.0]), here(2)).weights
    assert weights[0] == 0
    close(weights[1:], alone)


def test_wrong_arguments() -> None:
    with pytest.raises(LossweaveError, match="UWSO: temperature=0 should be positive"):
        build_combiner({"type": "UWSO", "temperature": 0})
