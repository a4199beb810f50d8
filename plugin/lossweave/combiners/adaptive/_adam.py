"""Adam on buffers, for weights that a combiner learns by itself."""

import torch
from torch import Tensor, nn

__all__ = ["LARGEST_RATE", "BufferAdam", "adam_step"]

#: A learning rate above it moves a weight by more than float32 can use of it.
LARGEST_RATE = 1000


def adam_step(
    grad: Tensor,
    first: Tensor,
    second: Tensor,
    count: Tensor,
    lr: float,
    betas: tuple[float, float],
    eps: float = 1e-8,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    r"""One step of Adam (Kingma and Ba, 2015) as a pure function.

    Args:
        grad: gradient, shape ``(K,)``.
        first: running mean of the gradient, ``(K,)``.
        second: running mean of its square, ``(K,)``.
        count: steps taken so far per entry, ``(K,)``.
        lr: learning rate.
        betas: the two decay rates.
        eps: added to the denominator.

    Returns:
        The step to ADD to the variable, and the new ``first``, ``second`` and ``count``.
    """
    count = count + 1
    first = torch.lerp(first, grad, 1 - betas[0])
    second = torch.lerp(second, grad * grad, 1 - betas[1])
    unbiased = first / (1 - betas[0] ** count)
    scale = (second / (1 - betas[1] ** count)).sqrt() + eps
    return -lr * unbiased / scale, first, second, count


#: Gradients are cut here, so that their squares fit float32: one that did not fit would make
#: the running mean of the squares infinite, and the variable would never move again.
_LARGEST = 1e18


class BufferAdam(nn.Module):
    r"""Adam whose moments are buffers, stepped only where a term was there.

    The host's optimizer, its schedules and its weight decay never see what it learns, all of
    it is in the checkpoint, and a step reads nothing on the host. A step is about ``lr`` for
    a steady gradient, and at most :math:`lr (1 - \beta_1) / \sqrt{1 - \beta_2}`, which is
    3.2 ``lr`` at the usual betas.

    Args:
        count: number of entries K.
        lr: learning rate.
        betas: the two decay rates.
        weight_decay: L2 coefficient, added to the gradient.

    Example:
        >>> adam = BufferAdam(1, lr=0.1)
        >>> adam.step(torch.zeros(1), torch.ones(1), torch.tensor([True]))
        tensor([-0.1000])
    """

    first: Tensor
    second: Tensor
    count: Tensor

    def __init__(
        self,
        count: int,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__()
        self.lr, self.betas, self.weight_decay = lr, (betas[0], betas[1]), weight_decay
        for name in ("first", "second", "count"):
            self.register_buffer(name, torch.zeros(count))

    @torch.no_grad()
    def step(self, variable: Tensor, grad: Tensor, mask: Tensor) -> Tensor:
        """The new value of ``variable``; entries outside ``mask`` keep theirs and their moments."""
        grad = (grad + self.weight_decay * variable).to(self.first.dtype)
        # A term that is absent, or a gradient that is not finite, leaves its entry as it was.
        mask = mask & grad.isfinite()
        grad = grad.clamp(-_LARGEST, _LARGEST)
        delta, first, second, count = adam_step(
            grad, self.first, self.second, self.count, self.lr, self.betas
        )
        self.first.copy_(torch.where(mask, first, self.first))
        self.second.copy_(torch.where(mask, second, self.second))
        self.count.copy_(torch.where(mask, count, self.count))
        return torch.where(mask, variable + delta.to(variable.dtype), variable)
