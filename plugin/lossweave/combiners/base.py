"""What every combiner is: K loss values in, one value and K weights out."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from lossweave.combiners._preference import WEIGHTS, Honoured, PreferringType, normalised
from lossweave.errors import LossweaveError
from lossweave.progress import Progress

__all__ = ["Combined", "Combiner"]


class Combined(NamedTuple):
    """The result of a combination.

    Args:
        value: the scalar f(L), shape ``()``.
        weights: its derivatives df/dL_k, shape ``(K,)``.
    """

    value: Tensor
    weights: Tensor


#: A weight, or a reference, above it leaves no room for a loss in float32.
LARGEST_WEIGHT = 1e12


class Combiner(nn.Module, metaclass=PreferringType):
    r"""Turns the K loss terms of one training iteration into one scalar.

    A subclass states its formula in :meth:`value`; the weights :math:`w_k = \partial f /
    \partial L_k` follow by automatic differentiation, and the training step applies
    :math:`\sum_k w_k \nabla L_k`. What is written ``x.detach()`` in a formula is a constant
    for that differentiation.

    The losses arrive detached, in float32 (float64 stays), averaged over all ranks, so that
    every rank computes the same value, weights and state. Nothing here may read a tensor's
    VALUE on the host (``item``, ``float``, ``bool``, a branch): that would stall a GPU.

    The order of calls, made by :class:`~lossweave.combination.LossCombination`, whose host's part
    is told there; what is marked is asked of combiners that declare it::

        combiner.bind(("cls", "loc"))              # once, when the model is built
        combiner.begin(progress)                   # every iteration
        value, weights = combiner.combine(losses, present)         # every training forward
        combiner.active()
        weights = combiner.weights_of(gramian)     # in its backward: combiners of gradients
        combiner.update(mean_losses, present)      # once per optimizer update: `learns`
        combiner.grad_norm(norm)                   # before the optimizer steps: `reads_grad_norm`
        combiner.relearn(losses, present)          # after it: `recompute`
        combiner.held_out(losses, present)         # after it, at times: `held_out_interval`
        combiner.measures()                        # at the log's interval
        combiner.forget_measures()

    State belongs in buffers made by :meth:`init_state`; it is then in the checkpoint.

    Every constructor takes ``prefer``, how important each term is: importances or shares, by name
    or in order. They are brought to a mean of 1 (:attr:`importances`), and what becomes of them is
    said by :attr:`preference`: unless a class says otherwise, its weights are multiplied by them.

    Example:
        >>> class Halved(Combiner):
        ...     def value(self, losses, present):
        ...         return losses.sum() / 2
        >>> halved = Halved()
        >>> halved.bind(("cls", "loc"))
        >>> halved.combine(torch.tensor([1.0, 2.0]), torch.tensor([True, True]))
        Combined(value=tensor(1.5000), weights=tensor([0.5000, 0.5000]))
    """

    #: What ``prefer`` does to it.
    preference: ClassVar[Honoured] = WEIGHTS
    #: The weights do not depend on the loss values, so ranks need not agree on those.
    linear: ClassVar[bool] = False
    #: :meth:`update` learns from the losses: there is state, and updates must be counted.
    learns: ClassVar[bool] = False
    #: The weights depend on :attr:`progress`.
    scheduled: ClassVar[bool] = False
    #: :meth:`grad_norm` learns from the norm of the update's gradient.
    reads_grad_norm: ClassVar[bool] = False

    #: What becomes of parameters that only inactive terms reach: 'hold' leaves them without a
    #: gradient, 'zero' gives them one of 0. None where no term is ever inactive.
    inactive: Literal["hold", "zero"] | None = None
    #: Whether :meth:`relearn` is called, with the losses of the same batch after the update.
    recompute: bool = False
    #: Updates between two calls of :meth:`held_out`; 0 means that it is not called.
    held_out_interval: int = 0
    terms: tuple[str, ...] = ()
    #: The importances as they were asked for; None means equal ones.
    prefer: Mapping[str, float] | Sequence[float] | None = None
    #: The same, in the order of the terms and 1 on average.
    importances: Sequence[float] = ()
    importance_vector: Tensor
    progress: Progress = Progress()

    def __init__(self) -> None:
        super().__init__()

    @property
    def needs_hook(self) -> bool:
        """Whether it is meaningless unless the framework's hook tells the progress."""
        return False

    def bind(self, terms: Sequence[str]) -> None:
        """Tell the combiner its terms, once; it checks its arguments and sizes its state.

        Raises:
            LossweaveError: the arguments do not fit these terms.
        """
        self.terms = tuple(terms)
        self.importances = [1.0] * len(self.terms)
        if self.prefer is not None:
            asked = self.per_term(self.prefer, "prefer")
            self.require("prefer", self.prefer, min(asked) > 0, "positive for every term")
            self.importances = normalised(asked)
            self.constant("importance_vector", self.importances)
        self.init_state(len(self.terms))

    def init_state(self, count: int) -> None:
        """Register the buffers for ``count`` terms. Stateless combiners need none."""

    def reset(self) -> None:
        """Forget everything learned, as if training began anew; state stays on its device."""
        devices = {buffer.device for buffer in self.buffers()}
        self.init_state(len(self.terms))
        for device in devices:
            self.to(device)

    def begin(self, progress: Progress) -> None:
        """Learn where the training stands, before :meth:`combine`."""
        self.progress = progress

    def value(self, losses: Tensor, present: Tensor) -> Tensor:
        """f(L), differentiable in the losses. Combiners with a closed form override
        :meth:`combine` instead.

        Args:
            losses: the K loss values, shape ``(K,)``; 0 where a term is absent.
            present: which terms there are in this iteration on any rank, boolean ``(K,)``.

        Returns:
            The scalar f(L), shape ``()``.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no value(losses, present)")

    def combine(self, losses: Tensor, present: Tensor) -> Combined:
        """f(L) and its weights df/dL. Combiners with a closed form override it."""
        with torch.enable_grad():
            variable = losses.detach().requires_grad_()
            value = self.value(variable, present)
            if not value.requires_grad:
                raise LossweaveError(
                    f"{type(self).__name__}: value() is not differentiable in the losses, so "
                    "nothing would be trained"
                )
            (weights,) = torch.autograd.grad(value, variable)
        return Combined(value.detach(), weights.masked_fill(~present, 0))

    def update(self, losses: Tensor, present: Tensor) -> None:
        """Learn from the mean losses of the optimizer update that ends with this iteration, after
        its last backward.

        Args:
            losses: mean over the update's forwards and over the ranks, shape ``(K,)``.
            present: which terms there were in it, boolean ``(K,)``.
        """

    def relearn(self, losses: Tensor, present: Tensor) -> None:
        """Learn from the same batch's losses after the update, where :attr:`recompute`.

        Args:
            losses: averaged over the ranks, shape ``(K,)``.
            present: which terms there are, boolean ``(K,)``.
        """

    def held_out(self, losses: Tensor, present: Tensor) -> None:
        """Learn from losses on data that is not trained on, where :attr:`held_out_interval`.

        Args:
            losses: averaged over the ranks, shape ``(K,)``.
            present: which terms there are, boolean ``(K,)``.
        """

    def grad_norm(self, norm: Tensor) -> None:
        """Learn the norm of the gradient that the optimizer is going to see, where
        :attr:`reads_grad_norm`.

        Args:
            norm: over all parameters and ranks, before clipping, shape ``()``.
        """

    def active(self) -> tuple[bool, ...] | None:
        """Which terms take part in this update, known on the host; None means all."""
        return None

    def measures(self) -> dict[str, float]:
        """What it learned on the way and logs show, by name, since :meth:`forget_measures`."""
        return {}

    def forget_measures(self) -> None:
        """Begin to gather :meth:`measures` anew: they have been logged."""

    def require(self, argument: str, value: Any, fulfilled: bool, allowed: str) -> None:
        """Refuse an argument's value.

        Raises:
            LossweaveError: not ``fulfilled``; names the argument, its value, what is allowed.
        """
        if not fulfilled:
            raise LossweaveError(f"{type(self).__name__}: {argument}={value!r} should be {allowed}")

    def require_epochs(self, argument: str, instead: str) -> None:
        """Refuse to count epochs where the framework does not tell how long one is.

        Raises:
            LossweaveError: :attr:`progress` has no ``iterations_per_epoch``.
        """
        if not self.progress.iterations_per_epoch:
            raise LossweaveError(
                f"{type(self).__name__}: {argument}='epoch' needs the number of iterations in "
                f"an epoch, which is not known here; use {instead}"
            )

    def constant(self, name: str, values: Sequence[float] | Sequence[Sequence[float]]) -> None:
        """Keep numbers as a buffer outside the checkpoint, so that they are on the losses'
        device already: making a tensor of them in the step would stall a GPU."""
        self.register_buffer(name, torch.tensor(values), persistent=False)

    def index_of(self, term: str, argument: str) -> int:
        """Position of a term that an argument names.

        Raises:
            LossweaveError: there is no such term.
        """
        if term not in self.terms:
            raise LossweaveError(
                f"{type(self).__name__}: {argument}={term!r} is not one of the terms "
                f"{list(self.terms)}"
            )
        return self.terms.index(term)

    def per_term(self, values: Any, argument: str) -> list[float]:
        """One number per term, from a dict by name, a sequence, or one number for all.

        Raises:
            LossweaveError: unknown names, another count than there are terms, or nan or inf.
        """
        name = type(self).__name__
        if isinstance(values, (int, float)):
            numbers = [float(values)] * len(self.terms)
        elif isinstance(values, Mapping):
            for term in values:
                self.index_of(term, argument)
            missing = [term for term in self.terms if term not in values]
            if missing:
                raise LossweaveError(f"{name}: {argument} lacks the terms {missing}")
            numbers = [float(values[term]) for term in self.terms]
        elif len(values) != len(self.terms):
            raise LossweaveError(
                f"{name}: {argument} has {len(values)} entries for the "
                f"{len(self.terms)} terms {list(self.terms)}"
            )
        else:
            numbers = [float(v) for v in values]
        self.require(argument, values, all(map(math.isfinite, numbers)), "finite numbers")
        small = all(abs(number) <= LARGEST_WEIGHT for number in numbers)
        self.require(argument, values, small, f"numbers of at most {LARGEST_WEIGHT:g}")
        return numbers
