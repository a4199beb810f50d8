"""Random weights."""

from typing import Any

import pytest
import torch
from helpers.combiner_cases import Case, close, here

from lossweave.combiners import RandomWeighting, build_combiner
from lossweave.combiners.adaptive.random_weighting import random_weights
from lossweave.errors import LossweaveError
from lossweave.progress import Progress

CASES = {
    "RandomWeighting": Case(
        lambda terms: {"seed": 3}, absent_as_if_never_there=False, by_position=True, draws=3
    )
}


def test_weights_are_k_times_the_softmax_of_standard_normals() -> None:
    drawn = torch.stack([random_weights(3, 0, t) for t in range(3000)])
    close(drawn.sum(1), torch.full((3000,), 3.0))
    logs = drawn.log()
    differences = logs[:, 0] - logs[:, 1]  # of two standard normals: mean 0, variance 2
    assert differences.mean().abs() < 0.1
    assert (differences.var() - 2).abs() < 0.2
    assert (drawn.mean(0) - 1).abs().max() < 0.05


def test_a_window_keeps_its_weights_and_the_next_draws_new_ones() -> None:
    combiner = RandomWeighting(seed=1)
    combiner.bind(("a", "b"))
    seen = []
    for t in range(4):
        combiner.begin(Progress(t, accumulation=2))
        seen.append(combiner.combine(torch.tensor([1.0, 2.0]), here(2)))
    assert torch.equal(seen[0].weights, seen[1].weights)
    assert torch.equal(seen[2].weights, seen[3].weights)
    assert not torch.equal(seen[1].weights, seen[2].weights)
    close(seen[0].value, seen[0].weights[0] + 2 * seen[0].weights[1])


def test_seeds_differ() -> None:
    assert not torch.equal(random_weights(2, 0, 0), random_weights(2, 1, 0))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": 1.5}, "RandomWeighting: seed=1.5 should be a whole number"),
        ({"seeds": 1}, r"no argument 'seeds'.*did you mean 'seed'\?"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(LossweaveError, match=message):
        build_combiner({"type": "RandomWeighting", **arguments})
