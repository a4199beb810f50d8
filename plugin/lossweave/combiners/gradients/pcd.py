"""Priority-constrained descent."""

from collections.abc import Sequence
from typing import Annotated, ClassVar

import torch
from torch import Tensor
from typing_extensions import Unpack

from lossweave.combiners._preference import refused
from lossweave.combiners.gradients._torchjd import torchjd_part
from lossweave.combiners.gradients.base import GradientCombiner, Shared
from lossweave.combiners.registry import register_combiner
from lossweave.utils.fields import at_least, between

__all__ = ["PCD"]


@register_combiner
class PCD(GradientCombiner):
    r"""Follows the gradient of a primary term as closely as it can while every other term gets at
    least the fraction :math:`\tau` of the progress that a step of its own would bring it:
    :math:`\min_d \|d - \tilde g_1\|^2`, :math:`\tilde g_j \cdot d \geq \tau \|\tilde g_j\|^2`
    (Not All Objectives Are Born Equal: Priority-Constrained Descent, 2026).

    The :math:`\tilde g_k` are rows over the root of the running mean of their squared norms; the
    result is as long as the primary row. Where the constraints exclude each other it is the
    primary row. The running means move once per optimizer update and are in the checkpoint.

    Edge cases: zero rows and absent terms are left out, and their means stay. Without the primary
    row there is no priority, and the others are added.

    Args:
        primary: name of the primary term; None means the first.
        tau: fraction of progress that is guaranteed, in [0, 1], for all others or by name.
        beta: decay of the means of the squared norms.
        eps: added to those means, in the unit of a squared gradient.
        shared: ``boundary``, ``interval``, ``normalize``, ``private``, ``momentum``, as in
            :class:`~lossweave.combiners.GradientCombiner`.

    Raises:
        LossweaveError: no such term, ``tau`` or ``beta`` outside [0, 1], or ``beta`` 1.

    Example:
        >>> combiner = PCD(primary="cls", tau=0.0)
        >>> combiner.bind(("cls", "loc"))
        >>> gramian = torch.tensor([[1.0, 0.5], [0.5, 4.0]], dtype=torch.float64)
        >>> combiner.weights_of(gramian)
        [1.0, 0.0]
    """

    preference = refused("a primary term goes before all others; give primary and tau")

    learns: ClassVar[bool] = True
    squares: Tensor
    steps: Tensor

    def __init__(
        self,
        primary: str | None = None,
        tau: Annotated[float, between(0, 1)] | dict[str, float] = 0.02,
        beta: Annotated[float, between(0, 1)] = 0.999,
        eps: Annotated[float, at_least(0)] = 1e-8,
        **shared: Unpack[Shared],
    ) -> None:
        super().__init__(**shared)
        self.require("beta", beta, 0 <= beta < 1, "0 or more, and below 1")
        self.primary, self.tau, self.beta, self.eps = primary, tau, beta, eps
        self._first = 0
        self._taus: list[float] = []
        self._make = torchjd_part("PCD", "PCDWeighting")

    def bind(self, terms: Sequence[str]) -> None:
        super().bind(terms)
        if self.primary is not None:
            self._first = self.index_of(self.primary, "primary")
        tau = self.tau
        if isinstance(tau, dict):  # the primary term needs none
            tau = {self.terms[self._first]: 0.0, **tau}
        self._taus = self.per_term(tau, "tau")
        self.require("tau", self.tau, all(0 <= x <= 1 for x in self._taus), "between 0 and 1")

    def init_state(self, count: int) -> None:
        super().init_state(count)
        for name in ("squares", "steps"):
            self.register_buffer(name, torch.zeros(count, dtype=torch.float64))

    def weigh(self, gramian: Tensor, terms: list[int]) -> Tensor:
        squares, steps = self.squares.cpu().clone(), self.steps.cpu().clone()
        squares[terms] = self.beta * squares[terms] + (1 - self.beta) * gramian.diagonal()
        steps[terms] += 1
        means = squares[terms] / (1 - self.beta ** steps[terms])
        self.move(squares=squares, steps=steps)
        if self._first not in terms:
            return torch.ones(len(terms), dtype=torch.float64)
        # The primary row first, as TorchJD wants it. Its own memory is lost in a checkpoint, and
        # counts one number of steps for all rows, so rows come with their means divided out.
        order = sorted(range(len(terms)), key=lambda at: terms[at] != self._first)
        scales = (means + self.eps).rsqrt()
        scaled = (gramian * torch.outer(scales, scales))[order][:, order]
        taus = torch.tensor([self._taus[terms[at]] for at in order[1:]], dtype=torch.float64)
        weighting = self._make(tau=taus, beta=0.5, eps=0.0)
        weighting._sq_norm_ema = 2 - scaled.diagonal()  # so that its new mean is 1 for every row
        weighting._n_steps = torch.tensor(1000)
        weighting._state_key = len(terms)
        found = weighting(scaled) * scales[order]
        # As long as the primary row itself, not as the scaled one.
        found = found / scales[order[0]]
        weights = torch.empty_like(found)
        weights[order] = found
        return weights
