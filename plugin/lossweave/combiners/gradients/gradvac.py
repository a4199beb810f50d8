"""Gradient vaccine."""

from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import Unpack

from lossweave.combiners._preference import ROWS
from lossweave.combiners.gradients._torchjd import torchjd_part, unit_trace
from lossweave.combiners.gradients.base import GradientCombiner, Shared
from lossweave.combiners.gradients.pcgrad import seeded
from lossweave.combiners.registry import register_combiner

__all__ = ["GradVac"]


@register_combiner
class GradVac(GradientCombiner):
    r"""Gradients are turned towards each other until their cosine reaches what it has been on
    average, :math:`\hat\phi_{ij} \leftarrow (1 - \beta) \hat\phi_{ij} + \beta \phi_{ij}`;
    then they are added (Wang et al., Gradient Vaccine, 2021).

    It acts on gradients that agree less than they use to, where PCGrad waits for a conflict. The
    averages are in the checkpoint; they move once per optimizer update. The random order of the
    pairs follows from (seed, update).

    Edge cases: zero rows and absent terms are left out, and their averages stay.

    Args:
        beta: weight of the newest cosine in the average.
        eps: added to denominators.
        seed: seed of the random orders.
        shared: ``boundary``, ``interval``, ``normalize``, ``private``, ``momentum``, as in
            :class:`~lossweave.combiners.GradientCombiner`.

    Raises:
        LossweaveError: ``beta`` outside [0, 1], or ``eps`` negative.

    Example:
        >>> combiner = GradVac()
        >>> combiner.bind(("cls", "loc"))
        >>> combiner.weights_of(torch.eye(2, dtype=torch.float64))
        [1.0, 1.0]
    """

    preference = ROWS

    learns: ClassVar[bool] = True
    scheduled: ClassVar[bool] = True
    cosines: Tensor

    def __init__(
        self, beta: float = 0.5, eps: float = 1e-8, seed: int = 0, **shared: Unpack[Shared]
    ) -> None:
        super().__init__(**shared)
        self.require("beta", beta, 0 <= beta <= 1, "between 0 and 1")
        self.require("eps", eps, eps >= 0, "0 or more")
        self.beta, self.eps, self.seed = beta, eps, seed
        self._make = torchjd_part("GradVac", "GradVacWeighting")

    def init_state(self, count: int) -> None:
        super().init_state(count)
        self.register_buffer("cosines", torch.zeros(count, count, dtype=torch.float64))

    def weigh(self, gramian: Tensor, terms: list[int]) -> Tensor:
        weighting = self._make(self.beta, self.eps)
        # Its memory is lost in a checkpoint, so it is handed in and taken back.
        memory = self.cosines.cpu()
        weighting._phi_t = memory[terms][:, terms].clone()
        weighting._state_key = (len(terms), torch.float64)
        with seeded(self.seed, self.progress.update):
            weights = weighting(unit_trace(gramian))
        memory = memory.clone()
        rows = torch.tensor(terms)
        memory[rows[:, None], rows] = weighting._phi_t
        self.move(cosines=memory)
        return weights
