"""Projection onto the dual cone."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from typing_extensions import Unpack

from lossweave.combiners.gradient import (
    GradientCombiner,
    Shared,
    preferred,
    torchjd_part,
    unit_trace,
)
from lossweave.combiners.registry import register_combiner

__all__ = ["DualProj"]


@register_combiner
class DualProj(GradientCombiner):
    r"""The mean gradient, projected onto the cone of directions that no term minds:
    :math:`\pi_J(\sum_k p_k g_k)` (Lopez-Paz and Ranzato, Gradient Episodic Memory, 2017;
    Quinton and Rey, 2024).

    No term is made worse, to first order. A term with a long gradient prevails in the mean.

    Edge cases: zero rows and absent terms are left out. The cone is that of rows scaled to a
    Gramian of trace 1, so very short gradients are projected like others.

    Args:
        pref_vector: preference of each term, by name or in their order; None means equal
            ones that add up to 1 (the step is then that of a mean).
        reg_eps: added to the diagonal of the Gramian, so that the projector's problem is
            definite.
        shared: ``boundary``, ``interval``, ``normalize``, ``private``, as in
            :class:`~lossweave.combiners.GradientCombiner`.

    Raises:
        LossweaveError: preferences that do not fit the terms, ``reg_eps`` not positive, or
            quadprog and qpsolvers not installed.

    Example:
        >>> import torch
        >>> combiner = DualProj()
        >>> combiner.bind(("cls", "loc"))
        >>> gramian = torch.tensor([[18.0, -22.0], [-22.0, 38.0]], dtype=torch.float64)
        >>> [round(w, 2) for w in combiner.weights_of(gramian)]
        [0.61, 0.5]
    """

    def __init__(
        self,
        pref_vector: dict[str, float] | Sequence[float] | None = None,
        reg_eps: float = 0.0001,
        **shared: Unpack[Shared],
    ) -> None:
        super().__init__(**shared)
        self.require("reg_eps", reg_eps, reg_eps > 0, "positive")
        self.pref_vector, self.reg_eps = pref_vector, reg_eps
        self._preference: list[float] | None = None
        needs = {p: "quadprog-projector" for p in ("qpsolvers", "quadprog")}
        projector = torchjd_part("DualProj", "torchjd.linalg:QuadprogProjector", needs)
        self._weighting: Any = torchjd_part("DualProj", "DualProjWeighting")(
            projector=projector(reg_eps=reg_eps)
        )

    def bind(self, terms: Sequence[str]) -> None:
        super().bind(terms)
        if self.pref_vector is not None:
            self._preference = self.per_term(self.pref_vector, "pref_vector")

    def weigh(self, gramian: Tensor, terms: list[int]) -> Tensor:
        self._weighting.pref_vector = preferred(self._preference, terms)
        return self._weighting(unit_trace(gramian))
