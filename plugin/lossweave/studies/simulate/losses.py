"""Two losses of known value and gradient, brought to the public combination."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lossweave.combination import LossCombination, build_combination
from lossweave.progress import Progress

__all__ = ["EPOCH", "Trainer", "effective_weights"]

TERMS = {"first": "loss_first", "second": "loss_second"}
#: Updates that count as an epoch, for combiners that ask for it.
EPOCH = 10


class _Known(torch.autograd.Function):
    """A loss whose value and gradient are given, so that a step costs the combination alone."""

    @staticmethod
    def forward(ctx: Any, theta: Tensor, value: float, gradient: Sequence[float]) -> Tensor:
        ctx.gradient = theta.new_tensor(gradient)
        return theta.new_tensor(value)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return grads[0] * ctx.gradient, None, None


class Trainer:
    """A combination of two losses that share two parameters, as a training loop drives it.

    Args:
        combiner: what :func:`~lossweave.combination.build_combination` takes.
        steps: updates of the whole run.

    Raises:
        LossweaveError: the combiner cannot be made for two terms.

    Example:
        >>> Trainer("SquaredSum", 1).backward((1.0, 2.0), ((1.0, 0.0), (0.0, 1.0)))
        [6.0, 6.0]
    """

    def __init__(self, combiner: Any, steps: int) -> None:
        self.combination: LossCombination = build_combination(combiner, TERMS)
        self.theta = torch.zeros(2, dtype=torch.float64, requires_grad=True)
        self.steps = steps
        self._update = 0

    def backward(
        self, values: Sequence[float], gradients: Sequence[Sequence[float]]
    ) -> list[float]:
        """One update's losses and backward pass.

        Args:
            values: of the two losses.
            gradients: theirs with respect to the parameters, (2, 2).

        Returns:
            The combined gradient, which is also in ``theta.grad``.
        """
        self.combination.set_progress(
            Progress(self._update, max_iterations=self.steps, iterations_per_epoch=EPOCH)
        )
        self._update += 1
        self.theta.grad = None
        entries = {
            name: _Known.apply(self.theta, value, gradient)
            for name, value, gradient in zip(TERMS.values(), values, gradients, strict=True)
        }
        self.combination(entries).backward()
        grad = self.theta.grad
        combiner = self.combination.combiner
        if combiner.reads_grad_norm and grad is not None:
            combiner.grad_norm(grad.norm())
        self.combination.end_iteration()
        return [0.0, 0.0] if grad is None else grad.tolist()


def effective_weights(
    combined: Sequence[float], gradients: Sequence[Sequence[float]]
) -> tuple[float, float]:
    """The weights with which two independent gradients make up the combined one.

    Read off the gradient that is left in the parameters, they are the same thing for functions
    of the losses, for weightings of gradients and for methods that mix elements.

    Args:
        combined: the combined gradient, two numbers.
        gradients: the two losses' own, not parallel.

    Example:
        >>> effective_weights([3.0, 2.0], [[1.0, 0.0], [1.0, 1.0]])
        (1.0, 2.0)
    """
    (a, b), (c, d) = gradients
    x, y = combined
    determinant = a * d - b * c
    return (x * d - y * c) / determinant, (a * y - b * x) / determinant
