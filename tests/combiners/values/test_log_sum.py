"""The sum of logarithms: worked values, and what it has in common with SelfNormalized."""

import math

import pytest
import torch
from helpers.combiner_cases import Case, close, here, losses_at

from lossweave.combiners import LogSum, SelfNormalized, build_combiner
from lossweave.errors import LossweaveError

CASES = {"LogSum": Case(alone=0.4, value_alone=False, drops_negative=True)}


def test_worked_example() -> None:
    value, weights = LogSum(eps=0.5).combine(torch.tensor([0.5, 1.5, 3.5]), here())
    close(value, math.log(1) + math.log(2) + math.log(4))
    close(weights, [1.0, 0.5, 0.25])


def test_its_gradient_is_that_of_the_self_normalized_terms() -> None:
    losses = losses_at(3)
    own = LogSum(eps=1e-6).combine(losses, here()).weights
    close(own, SelfNormalized(eps=1e-6).combine(losses, here()).weights)


def test_the_scale_of_a_term_does_not_matter() -> None:
    losses, scales = losses_at(1), torch.tensor([1e-3, 1.0, 1e6])
    plain = LogSum().combine(losses, here()).weights * losses
    scaled = LogSum().combine(losses * scales, here()).weights * losses * scales
    close(plain, scaled, rtol=1e-4)


def test_wrong_arguments() -> None:
    with pytest.raises(LossweaveError, match="LogSum: eps=0"):
        build_combiner({"type": "LogSum", "eps": 0})
