"""The gradient root: each term's own gradient, combined where the terms meet."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from lossweave.backward._job import Job, Method
from lossweave.backward._reach import Reachability
from lossweave.utils.torch_compat import uncompiled

__all__ = ["gradient_root"]


def gradient_root(
    value: Tensor,
    terms: Sequence[Tensor | None],
    reachability: Reachability,
    parameters: Sequence[Tensor],
    method: Method,
    others: Sequence[Tensor] = (),
    on_reached: Callable[[], None] | None = None,
) -> Tensor:
    r"""A scalar whose backward combines the terms' gradients at a boundary.

    Backward runs one pass per term, from the term down to the boundary and to the leaves
    above it (above a cut first, see :func:`~lossweave.backward._passes.cut_passes`), with the
    gradient that came in, so a loss scaler's factor and the division by accumulated iterations
    reach every half-precision gradient. With :math:`J` the K rows over the boundary and over the
    leaves that two or more terms reach, divided by that factor, the Gramian
    :math:`G = J J^\top` is summed up in float64, tensor by tensor, small ones together (for a few
    terms on a CPU products are taken in float32 piece by piece, where its range allows); the
    method turns it into K weights, and each tensor gets :math:`\sum_k w_k g_k`.
    A leaf that one term reaches gets that term's gradient, as it is or weighted. What follows
    below the boundary is one ordinary backward. The terms' graph is released with the last pass
    through each side of the cut.

    Hooks of the user's are called once, with what one backward of the combined scalar has there,
    by the backward that goes on from here: from the leaves and the boundary's tensors, or, where
    there are hooks on tensors above, once more from the terms with their weights (until when the
    graph is kept). The Gramian is of the gradients without them. Not so for ``retain_grad`` of a
    tensor above the boundary: it gathers all terms' gradients.

    With several ranks, rows of shared parameters are averaged over the ranks first; the
    Gramians of boundary tensors, which belong to a rank's own batch, are summed and divided
    by the squared number of ranks. The collectives are the same on every rank, whatever its
    batch holds.

    Args:
        value: the scalar's value, detached, shape ``()``.
        terms: K attached scalars; None where a term is absent.
        reachability: what :func:`~lossweave.backward.reachability_of` found for them.
        parameters: the model's parameters, in an order that all ranks share.
        method: what makes weights of the Gramian.
        others: what else a backward is going to run through the terms' graph, which is kept then.
        on_reached: called when a backward reaches the scalar.

    Example:
        >>> from lossweave.backward import reachability_of
        >>> class Mean:
        ...     private, elementwise, remembers = "plain", False, False
        ...     def weights_of(self, gramian):
        ...         return [1 / len(gramian)] * len(gramian)
        >>> x = torch.ones(2, requires_grad=True)
        >>> terms = [(3 * x).sum(), (5 * x).sum()]
        >>> reachability = reachability_of(terms, [])
        >>> root = gradient_root(torch.tensor(16.0), terms, reachability, [x], Mean())
        >>> root.backward()
        >>> x.grad
        tensor([4., 4.])
    """
    job = Job(list(terms), reachability, list(parameters), method, list(others))
    through = (terms[k] for k in job.through)
    return _GradientRoot.apply(on_reached, value, job, *through, *job.tensors)


class _GradientRoot(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, on_reached: Callable[[], None] | None, value: Tensor, job: Job, *tensors: Tensor
    ) -> Tensor:
        ctx.job, ctx.on_reached = job, on_reached
        return value.clone()

    @staticmethod
    @uncompiled
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        job, ctx.job = ctx.job, None  # what the job holds goes when it is done
        if job is None:
            raise RuntimeError(
                "the terms' graph was released by the first backward through their combination"
            )
        if ctx.on_reached is not None:
            ctx.on_reached()
        with torch.autocast(grads[0].device.type, enabled=False), job.retained():
            return None, None, None, *job.run(grads[0])
