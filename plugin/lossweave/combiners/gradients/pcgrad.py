"""Projecting conflicting gradients."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor
from typing_extensions import Unpack

from lossweave.combiners._preference import ROWS
from lossweave.combiners._random import generator_for
from lossweave.combiners.gradients._torchjd import torchjd_part, unit_trace
from lossweave.combiners.gradients.base import GradientCombiner, Shared
from lossweave.combiners.registry import register_combiner

__all__ = ["PCGrad", "seeded"]


@contextmanager
def seeded(seed: int, update: int) -> Iterator[None]:
    """Let the CPU's global draws follow from (seed, update), and leave its state as it was."""
    state = torch.get_rng_state()
    torch.set_rng_state(generator_for(seed, update).get_state())
    try:
        yield
    finally:
        torch.set_rng_state(state)


@register_combiner
class PCGrad(GradientCombiner):
    r"""Each gradient loses its part against every other that it conflicts with, in random
    order: :math:`g_i \leftarrow g_i - \frac{g_i \cdot g_j}{\|g_j\|^2} g_j` where
    :math:`g_i \cdot g_j < 0`; then they are added (Yu et al., Gradient Surgery for Multi-Task
    Learning, 2020).

    Without conflict it is the plain sum. The order matters from three terms on; it follows from
    (seed, update), so all ranks and a resumed run draw the same.

    Edge cases: zero rows and absent terms are left out.

    Args:
        seed: seed of the random orders.
        shared: ``boundary``, ``interval``, ``normalize``, ``private``, ``momentum``, as in
            :class:`~lossweave.combiners.GradientCombiner`.

    Example:
        >>> combiner = PCGrad()
        >>> combiner.bind(("cls", "loc"))
        >>> gramian = torch.tensor([[18.0, -22.0], [-22.0, 38.0]], dtype=torch.float64)
        >>> [round(w, 4) for w in combiner.weights_of(gramian)]
        [2.2222, 1.5789]
    """

    preference = ROWS

    scheduled: ClassVar[bool] = True

    def __init__(self, seed: int = 0, **shared: Unpack[Shared]) -> None:
        super().__init__(**shared)
        self.seed = seed
        self._weighting: Any = torchjd_part("PCGrad", "PCGradWeighting")()

    def weigh(self, gramian: Tensor, terms: list[int]) -> Tensor:
        if bool((gramian >= 0).all()):
            return torch.ones(len(terms), dtype=torch.float64)
        with seeded(self.seed, self.progress.update):
            return self._weighting(unit_trace(gramian))
