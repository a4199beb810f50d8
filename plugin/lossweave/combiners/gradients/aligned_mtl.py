"""Independent component alignment."""

from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor
from typing_extensions import Unpack

from lossweave.combiners.gradients._torchjd import torchjd_part, unit_trace
from lossweave.combiners.gradients.base import PreferringCombiner, Shared
from lossweave.combiners.registry import register_combiner

__all__ = ["AlignedMTL"]


@register_combiner
class AlignedMTL(PreferringCombiner):
    r"""Gradients whose principal components are brought to one length:
    :math:`w = \sigma \, V \Sigma^{-1} V^\top p` with :math:`G = V \Sigma^2 V^\top` and
    preferences p (Senushkin et al., Independent Component Alignment for Multi-Task Learning,
    2023).

    The gradients it adds up are orthogonal to each other, so none prevails or is undone. With
    preferences that add up to 1 the step is shorter than that of the plain sum.

    Edge cases: zero rows and absent terms are left out; components without length are dropped.

    Args:
        pref_vector: preference of each term, by name or in their order; None means equal
            ones that add up to 1.
        scale_mode: sigma: the smallest length ('min'), or the median or rms of all of them.
        shared: ``boundary``, ``interval``, ``normalize``, ``private``, ``momentum``, as in
            :class:`~lossweave.combiners.GradientCombiner`.

    Raises:
        LossweaveError: preferences that do not fit the terms.

    Example:
        >>> import torch
        >>> combiner = AlignedMTL()
        >>> combiner.bind(("cls", "loc"))
        >>> gramian = torch.tensor([[4.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
        >>> combiner.weights_of(gramian)
        [0.25, 0.5]
    """

    def __init__(
        self,
        pref_vector: dict[str, float] | Sequence[float] | None = None,
        scale_mode: Literal["min", "median", "rmse"] = "min",
        **shared: Unpack[Shared],
    ) -> None:
        super().__init__(pref_vector, **shared)
        self.scale_mode = scale_mode
        self._weighting: Any = torchjd_part("AlignedMTL", "AlignedMTLWeighting")(
            scale_mode=scale_mode
        )

    def weigh(self, gramian: Tensor, terms: list[int]) -> Tensor:
        self._weighting.pref_vector = self.preferences(terms)
        return self._weighting(unit_trace(gramian))
