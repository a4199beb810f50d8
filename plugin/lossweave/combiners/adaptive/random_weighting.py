"""Random loss weighting."""

from typing import ClassVar

import torch
from torch import Tensor

from lossweave.combiners._random import generator_for
from lossweave.combiners.base import Combined, Combiner
from lossweave.combiners.registry import register_combiner

__all__ = ["RandomWeighting", "random_weights"]


def random_weights(count: int, seed: int, update: int) -> Tensor:
    r""":math:`K \, \mathrm{softmax}(z)` with :math:`z \sim N(0, 1)^K`, from (seed, update) alone.

    Example:
        >>> first = random_weights(3, seed=0, update=7)
        >>> bool((first == random_weights(3, seed=0, update=7)).all()), round(first.sum().item(), 4)
        (True, 3.0)
    """
    logits = torch.randn(count, generator=generator_for(seed, update))
    return count * torch.softmax(logits, dim=0)


@register_combiner
class RandomWeighting(Combiner):
    r"""New random weights at every optimizer update: :math:`\sum_k w_k L_k`,
    :math:`w = K \, \mathrm{softmax}(z)`, :math:`z \sim N(0, 1)^K` (Lin et al., Reasonable
    Effectiveness of Random Weighting, 2022).

    The weights add up to K, as those of the plain sum do. They follow from (seed, update), so
    all ranks and a resumed run draw the same.

    Edge cases: linear, as :class:`~lossweave.combiners.Sum`.

    Args:
        seed: seed of the draws.

    Example:
        >>> combiner = RandomWeighting(seed=0)
        >>> combiner.bind(("cls", "loc"))
        >>> combiner.combine(torch.ones(2), torch.tensor([True, True])).value
        tensor(2.)
    """

    linear: ClassVar[bool] = True
    scheduled: ClassVar[bool] = True

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.seed = seed

    def combine(self, losses: Tensor, present: Tensor) -> Combined:
        drawn = random_weights(losses.numel(), self.seed, self.progress.update)
        weights = drawn.to(losses, non_blocking=True).masked_fill(~present, 0)
        return Combined((weights * losses).sum(), weights)
