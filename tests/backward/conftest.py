"""Graphs that tests of the backward package share."""

import random
from collections.abc import Callable

import pytest
import torch


@pytest.fixture
def random_terms() -> Callable[..., list[torch.Tensor]]:
    """Makes three terms of a seed and five leaves of six elements."""
    return _random_terms


def _random_terms(
    seed: int,
    leaves: list[torch.Tensor],
    look: Callable[[torch.Tensor], object] = lambda tensor: None,
) -> list[torch.Tensor]:
    """Terms over a graph with skips, shared leaves, and nodes of several outputs.

    Args:
        seed: of the graph.
        leaves: five.
        look: called with every tensor that is made.
    """
    draw = random.Random(seed)
    made = [leaves[0] * leaves[1]]
    for _ in range(40):
        one, other = draw.choice(made[-4:]), draw.choice(made[-8:])
        kind = draw.randrange(6)
        if kind == 0:
            made.append(one + other)
        elif kind == 1:
            made.append(torch.tanh(one) * draw.choice(leaves))
        elif kind == 2:
            made.append(one * torch.sigmoid(one))
        elif kind == 3:
            parts = one.chunk(2)
            made.append(torch.cat([parts[1], parts[0]]))
        elif kind == 4:
            made.append(torch.sin(one))
        else:
            made.append(one.clone().mul_(draw.choice(leaves)))
        look(made[-1])
    return [
        made[-1].square().mean(),
        made[-2].sum(),
        (made[-5] * made[-1]).mean() + leaves[2].sum(),
    ]
