"""The harmonic mean of the terms."""

from typing import Annotated

from torch import Tensor

import lossweave
from lossweave.utils.fields import above

__all__ = ["Harmonic", "harmonic_mean"]


def harmonic_mean(losses: Tensor, present: Tensor, floor: float) -> Tensor:
    r"""The harmonic mean :math:`K / \sum_k 1 / L_k` over the terms that are present.

    Args:
        losses: shape ``(K,)``.
        present: which there are, boolean ``(K,)``.
        floor: a smaller loss counts as this one.

    Example:
        >>> import torch
        >>> harmonic_mean(torch.tensor([1.0, 3.0]), torch.tensor([True, True]), floor=1e-6)
        tensor(1.5000)
    """
    inverse = (1 / losses.clamp(min=floor)).masked_fill(~present, 0)
    return present.sum() / inverse.sum().clamp(min=1e-30)


@lossweave.register_combiner
class Harmonic(lossweave.Combiner):
    r"""The harmonic mean :math:`K / \sum_k 1 / L_k`: small terms are trained most.

    Edge cases: a term below ``floor`` has no weight; an absent one is as if never there.

    Args:
        floor: positive, in the unit of the losses.

    Example:
        >>> import torch
        >>> combiner = lossweave.build_combiner(dict(type="Harmonic", floor=1e-3))
        >>> combiner.bind(("cls", "loc"))
        >>> combiner.combine(torch.tensor([1.0, 3.0]), torch.tensor([True, True]))
        Combined(value=tensor(1.5000), weights=tensor([1.1250, 0.1250]))
    """

    def __init__(self, floor: Annotated[float, above(0)] = 1e-6) -> None:
        super().__init__()
        self.floor = floor

    def value(self, losses: Tensor, present: Tensor) -> Tensor:
        return harmonic_mean(losses, present, self.floor)
