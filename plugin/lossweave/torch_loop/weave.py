"""Combine the losses of any training loop."""

import weakref
from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from lossweave.combination import LossCombination, build_combination
from lossweave.errors import LossweaveError, NonFiniteLossError
from lossweave.host.hook import HostHook
from lossweave.progress import Progress
from lossweave.torch_loop.watching import Watch
from lossweave.utils.torch_compat import uncompiled

__all__ = ["Weave"]

_OPTIMIZER = "the optimizer: Weave(model, ..., optimizer=optimizer)"


class Weave(nn.Module):
    """Turns a model's dictionary of losses into the one scalar whose backward trains it.

    Three lines of a training loop change::

        weave = Weave(model, combiner="PCGrad")
        for images, targets in loader:
            loss = weave(model(images, targets))   # in place of sum(losses.values())
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            weave.step()                           # after each step of the optimizer

    What comes between two calls of :meth:`step` is one update: with gradient accumulation that
    is several forwards and backwards, from whose mean losses a combiner learns once. Mixed
    precision (``scaler.scale(loss).backward()``) and ``DistributedDataParallel`` are as always; the
    combiner's state is equal on all ranks by itself. It belongs in the checkpoint:
    ``weave.state_dict()``.

    Args:
        model: the model whose losses these are, or its ``DistributedDataParallel`` wrapper.
        combiner: a combiner's name, ``dict(type=name, ...)`` or a combiner.
        terms: which losses make up which term: 'auto' ('task', or 'loss' where that fits
            nothing), 'task', 'head', 'loss', 'layer', 'level' or a dict of patterns; see
            :func:`lossweave.combination.build_combination`.
        optimizer: the optimizer that trains the model, or several. Needed by what acts on the
            gradients before the step: taking turns, ``on_nonfinite='skip'``, methods that read
            the norm of the gradient.
        extra: 'add' or 'error', for losses that belong to no term.
        on_nonfinite: 'raise' or 'skip', for what is not finite. 'raise' looks at the terms in
            :meth:`logged`, so that nothing waits for them elsewhere.
        max_updates: length of the training, for combiners whose schedule needs it.
        updates_per_epoch: updates in an epoch, for those that count epochs.
        log: where remarks go; by default the logger 'lossweave'.

    Raises:
        LossweaveError: a wrong argument, or no module.

    Example:
        A network with two heads:

        >>> _ = torch.manual_seed(0)
        >>> trunk, cls, box = nn.Linear(8, 16), nn.Linear(16, 3), nn.Linear(16, 4)
        >>> model = nn.ModuleList([trunk, cls, box])
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> weave = Weave(model, "PCGrad", terms={"cls": "loss_cls", "box": "loss_box"})
        >>> inputs, labels, boxes = torch.randn(4, 8), torch.tensor([0, 1, 2, 0]), torch.rand(4, 4)
        >>> for _ in range(3):
        ...     shared = trunk(inputs).relu()
        ...     loss = weave({"loss_cls": nn.functional.cross_entropy(cls(shared), labels),
        ...                   "loss_box": nn.functional.l1_loss(box(shared), boxes)})
        ...     loss.backward()
        ...     optimizer.step()
        ...     optimizer.zero_grad()
        ...     weave.step()
        >>> weave.updates
        3
    """

    updates_done: Tensor

    def __init__(
        self,
        model: nn.Module,
        combiner: Any = "Sum",
        terms: Any = "auto",
        optimizer: torch.optim.Optimizer | Sequence[torch.optim.Optimizer] = (),
        extra: str = "add",
        on_nonfinite: str = "raise",
        max_updates: int | None = None,
        updates_per_epoch: int | None = None,
        log: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(model, nn.Module):
            raise LossweaveError(f"Weave takes a model, but got {type(model).__name__}")
        optimizers = (optimizer,) if isinstance(optimizer, torch.optim.Optimizer) else optimizer
        if not all(isinstance(one, torch.optim.Optimizer) for one in optimizers):
            raise LossweaveError(f"Weave: optimizer={optimizer!r} should be torch's, or several")
        for name, count in (("max_updates", max_updates), ("updates_per_epoch", updates_per_epoch)):
            if count is not None and (not isinstance(count, int) or count < 1):
                raise LossweaveError(f"Weave: {name}={count!r} should be a whole number above 0")
        bare = model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model
        combination: Any = build_combination(
            combiner, terms, None, None, extra=extra, on_nonfinite=on_nonfinite,
            hook_line=_OPTIMIZER,
        )  # fmt: skip
        if log is not None:
            combination.log = log
        self.combination: LossCombination = combination
        self.max_updates, self.updates_per_epoch = max_updates, updates_per_epoch
        self.register_buffer("updates_done", torch.zeros((), dtype=torch.long))
        #: Updates so far.
        self.updates = 0
        # In tuples, so that the model and the optimizer are no part of this module's state.
        self._model = (bare,)
        self._optimizers = tuple(optimizers)
        self._hook = HostHook()
        self._attach(bare)

    def _attach(self, model: nn.Module) -> None:
        """Watch the model and the optimizers until this is no more, or fails to begin."""
        handles: list[RemovableHandle] = []
        try:
            boundary = self.combination.boundary
            if boundary is not None and boundary.needs_forward:
                handles += Watch(model, boundary).handles
            self._hook.begin(self, self._optimizers)
            self._hook.model = model
            handles += self._hook.handles
            self._begin()
        except BaseException:
            _remove(handles)
            raise
        # Handles refer to no model and no hook, so that this keeps nothing alive.
        weakref.finalize(self, _remove, handles).atexit = False

    # ------------------------------------------------------------------------ the step

    @uncompiled
    def forward(self, losses: Mapping[str, Any]) -> Tensor:
        """The scalar to run ``backward`` on.

        Args:
            losses: by name, attached tensors, or lists of them, which count as the sum of their
                means.

        Returns:
            An attached scalar, shape ``()``. With ``combiner='Sum'`` it is what
            ``sum(losses.values())`` is, to the last bit.

        Raises:
            LossweaveError: no dictionary, no losses, or terms that fit none of them.
        """
        if not isinstance(losses, Mapping):
            raise LossweaveError(
                f"weave takes a dictionary of losses, but got {type(losses).__name__}"
            )
        total = None
        if self.combination.is_plain_sum and all(isinstance(x, Tensor) for x in losses.values()):
            total = sum(losses.values()) if losses else None
        return self.combination(losses, total, self._model[0])

    def step(
        self,
        again: Callable[[], Mapping[str, Any]] | None = None,
        held_out: Callable[[], Mapping[str, Any]] | None = None,
    ) -> None:
        """Say that the optimizer has stepped: the combiner learns, the next update begins.

        Args:
            again: measures the losses of the same batch once more, for a combiner that looks at
                them after the update (``FAMO(recompute=True)``); it runs without gradients.
            held_out: likewise those of data that is not trained on (``AutoLoss``).

        Raises:
            LossweaveError: a combiner asks for one of these, and it is not given.
        """
        self._hook.end_iteration(
            lambda _: _measured(again, "again"), lambda _: _measured(held_out, "held_out")
        )
        self.updates += 1
        self.updates_done.fill_(self.updates)
        self._begin()

    @property
    def skipping(self) -> bool:
        """Whether this update is left out (``on_nonfinite='skip'``)."""
        return self.combination.skipping

    def logged(self) -> dict[str, float]:
        """``term_NAME`` and ``weight_NAME`` of the last update, for a log. Synchronises.

        Raises:
            NonFiniteLossError: a term is not finite, and ``on_nonfinite`` is 'raise'.
        """
        values = self._hook.logged(fresh=False)
        bad = [f"{name} is {value}" for name, value in values.items() if not isfinite(value)]
        if bad and not self._hook.skips:
            raise NonFiniteLossError(
                f"update {self.updates}: {', '.join(bad)}; {self.combination.ADVICE}"
            )
        return values

    def _begin(self) -> None:
        self._hook.progress = progress = Progress(
            iteration=self.updates,
            max_iterations=self.max_updates,
            iterations_per_epoch=self.updates_per_epoch,
        )
        self.combination.set_progress(progress, hooked=bool(self._optimizers))

    # ---------------------------------------------------------------------- resumption

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args)
        self.updates = int(self.updates_done)
        self._begin()


def _remove(handles: Sequence[RemovableHandle]) -> None:
    for handle in handles:
        handle.remove()


def _measured(measure: Callable[[], Mapping[str, Any]] | None, name: str) -> Mapping[str, Any]:
    if measure is None:
        raise LossweaveError(f"the combiner asks for losses measured anew: weave.step({name}=...)")
    with torch.no_grad():
        return measure()
