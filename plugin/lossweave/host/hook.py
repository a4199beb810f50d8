"""What the hooks of both frameworks share: the host's part of the protocol with combinations.

The order of calls is told by :class:`~lossweave.combination.LossCombination`. An adapter's hook
translates: it tells where the training stands, what an optimizer is, how a batch's losses are
measured again, and how its framework logs.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from lossweave.combination import LossCombination
from lossweave.errors import LossweaveError, NonFiniteLossError
from lossweave.host import optimizer_step
from lossweave.progress import Progress

__all__ = ["HostHook"]

Losses = Mapping[str, Any]


class HostHook:
    """Serves the combinations of one model through a training.

    ::

        host.begin(model, optimizers)        # before training
        host.begin_iteration(progress)       # before every iteration
        host.end_iteration(...)              # after it, the losses having been looked at
        host.logged()                        # at the log's interval
        host.end()                           # after training

    Args:
        max_skips: updates skipped in a row at which the run ends; None never ends it.
        before: called before an optimizer steps, ahead of everything else.
    """

    def __init__(
        self, max_skips: int | None = None, before: Callable[[], None] | None = None
    ) -> None:
        self.max_skips = max_skips
        self.before = before
        self.model: Any = None
        #: By the name of the module that holds it ('' for the model itself).
        self.combinations: dict[str, LossCombination] = {}
        #: Where the training stands.
        self.progress: Progress | None = None
        #: Updates skipped so far, and the last ones of them in a row.
        self.skipped = self.in_a_row = 0
        self._handles: list[Any] = []
        self._optimizers = 0
        self._norm: Callable[[list[Tensor]], Tensor] = optimizer_step.norm

    @property
    def skips(self) -> bool:
        """Whether any combination leaves out updates that are not finite."""
        return any(combination.skips for combination in self.combinations.values())

    # ------------------------------------------------------------------------ training

    def begin(
        self,
        model: nn.Module,
        optimizers: Sequence[Any],
        norm: Callable[[list[Tensor]], Tensor] = optimizer_step.norm,
    ) -> None:
        """Find the combinations, wherever they are in the model, and watch the optimizers.

        Args:
            model: without a wrapper of the framework's.
            optimizers: all that step it.
            norm: of the gradients that an optimizer is going to see, before clipping.
        """
        self.end()
        self.model, self._norm = model, norm
        self.combinations = {
            name.rpartition(".")[0]: module
            for name, module in model.named_modules()
            if isinstance(module, LossCombination)
        }
        self._optimizers = len(optimizers)
        self._handles = [
            optimizer.register_step_pre_hook(self._before_step) for optimizer in optimizers
        ]

    def need_held_out(self, given: bool, where: str) -> bool:
        """Whether a combiner asks for held-out losses.

        Args:
            given: whether there is data.
            where: how it is given, for the message.

        Raises:
            LossweaveError: one asks, and there is none.
        """
        asking = [
            combiner
            for combination in self.combinations.values()
            for combiner in combination.combiners
            if combiner.held_out_interval
        ]
        if asking and not given:
            raise LossweaveError(
                f"{type(asking[0]).__name__} asks for held-out losses; give their data to the "
                f"hook, {where}"
            )
        return bool(asking)

    def begin_iteration(self, progress: Progress) -> None:
        """Tell the combinations where the training stands."""
        self.progress = progress
        for combination in self.combinations.values():
            combination.set_progress(progress)

    def end_iteration(
        self,
        again: Callable[[LossCombination], Losses],
        held_out: Callable[[LossCombination], Losses],
    ) -> None:
        """Let the combiners learn what the optimizer's step has not let them learn yet.

        Args:
            again: measures the losses of the same batch, without gradients.
            held_out: measures those of the held-out data.

        Raises:
            NonFiniteLossError: too many updates were skipped in a row.
        """
        for combination in self.combinations.values():
            combination.end_iteration()
        if self.progress is None or not self.progress.last_of_update:
            return
        for combination in self.combinations.values():
            if combination.recomputes and not combination.skipping:
                combination.relearn(again(combination))
        for combination in self.combinations.values():
            if combination.wants_held_out and not combination.skipping:
                combination.held_out(held_out(combination))
        self._count_skips()

    def _count_skips(self) -> None:
        if not any(combination.skipping for combination in self.combinations.values()):
            self.in_a_row = 0
            return
        self.skipped += 1
        self.in_a_row += 1
        if self.max_skips is not None and self.in_a_row >= self.max_skips:
            raise NonFiniteLossError(
                f"{self.in_a_row} updates in a row were skipped, since something in them was not "
                "finite; lower the learning rate or clip gradients"
            )

    def logged(self) -> dict[str, float]:
        """What logs get of all combinations. Synchronises."""
        values: dict[str, float] = {}
        for number, combination in enumerate(self.combinations.values()):
            values.update(combination.logged(f"_{number}" if number else ""))
        if self.skips:
            values["skipped_updates"] = float(self.skipped)
        return values

    def end(self) -> None:
        """Stop watching the optimizers."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    # ----------------------------------------------------------------------- optimizer

    def _before_step(self, optimizer: Any, *_: Any) -> None:
        if self.before is not None:
            self.before()
        grads = optimizer_step.gradients(optimizer)
        for combination in self.combinations.values():
            if combination.skips and grads:
                combination.update.note(optimizer_step.finite(grads))
            if self._optimizers == 1:  # of several, each sees a part of the update
                combination.end_iteration()
            optimizer_step.withhold(combination, optimizer, self.model)
        reading = [
            combination.combiner
            for combination in self.combinations.values()
            if combination.combiner.reads_grad_norm and not combination.skipping
        ]
        left = optimizer_step.gradients(optimizer) if reading and self._optimizers == 1 else []
        if left:
            norm = self._norm(left)
            for combiner in reading:
                combiner.grad_norm(norm)

    # ---------------------------------------------------------------------- resumption

    def state_dict(self) -> dict[str, Any]:
        """What belongs in a checkpoint."""
        return {"skipped": self.skipped, "in_a_row": self.in_a_row}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of :meth:`state_dict`; a new start where it is empty."""
        self.skipped = state.get("skipped", 0)
        self.in_a_row = state.get("in_a_row", 0)
