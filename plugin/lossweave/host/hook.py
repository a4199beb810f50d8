"""What the hooks of both frameworks share: the host's part of the protocol with combinations.

The order of calls is told by :class:`~lossweave.combination.LossCombination`. An adapter's hook
translates: it tells where the training stands, what an optimizer is, how a batch's losses are
measured again, and how its framework logs.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lossweave.combination import LossCombination
from lossweave.combination.first_call import own_words
from lossweave.combination.nonfinite import ADVICE, described
from lossweave.errors import LossweaveError, NonFiniteLossError
from lossweave.host import optimizer_step
from lossweave.host.interrupt import asked_here, tell
from lossweave.host.optimizer_step import torch_optimizers
from lossweave.progress import Progress
from lossweave.utils import distributed
from lossweave.utils.sharding import is_sharded

__all__ = ["HostHook"]

Losses = Mapping[str, Any]
#: What helps where there is no combination.
PLAIN_ADVICE = "lower the learning rate or clip gradients"


class HostHook:
    """Serves the combinations of one model through a training.

    ::

        with host.begun(model, optimizers):  # before training, or begin(model, optimizers)
            ...                              # what else may be refused then
        host.begin_iteration(progress)       # before every iteration
        host.look(losses)                    # at the losses, when they are on the host
        host.end_iteration(...)              # after it
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
        #: Of the hooks on the optimizers.
        self.handles: list[Any] = []
        self._optimizers = 0
        self._reached = self._told = False
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
            optimizers: all that step it; none, where a host has other means.
            norm: of the gradients that an optimizer is going to see, before clipping.
        """
        self.end()
        self.model, self._norm = model, norm
        self.combinations = {
            name.rpartition(".")[0]: module
            for name, module in model.named_modules()
            if isinstance(module, LossCombination)
        }
        watched = [one for optimizer in optimizers for one in torch_optimizers(optimizer)]
        self._optimizers = len(watched)
        self._reached = self._told = False
        if optimizers and not watched:
            self._do_without(optimizers)
        if is_sharded(model):
            self._refuse_parts()
        # Last, so that what is refused leaves nothing on the optimizers.
        self.handles = [one.register_step_pre_hook(self._before_step) for one in watched]

    @contextmanager
    def begun(
        self,
        model: nn.Module,
        optimizers: Sequence[Any],
        norm: Callable[[list[Tensor]], Tensor] = optimizer_step.norm,
    ) -> Iterator[None]:
        """:meth:`begin`, undone where what an adapter does within the context fails.

        MMEngine calls no hook after a training that has failed, and its optimizer may be given to
        another one.
        """
        self.begin(model, optimizers, norm)
        try:
            yield
        except BaseException:
            self.end()
            raise

    def _refuse_parts(self) -> None:
        """Refuse what looks at whole parameters, where FSDP leaves a part of each here."""
        for combination in self.combinations.values():
            for combiner in combination.combiners:
                if _whole_gradients(combiner):
                    what = (
                        "inactive='hold' asks which parameters a term alone reaches"
                        if combiner.inactive == "hold"
                        else "it reads the norm of the whole gradient"
                    )
                    raise LossweaveError(
                        f"{type(combiner).__name__}: {what}, and FSDP shards the parameters; use "
                        "DDP" + ", or inactive='zero'" * (combiner.inactive == "hold")
                    )

    def _do_without(self, optimizers: Sequence[Any]) -> None:
        """Refuse what needs to see the optimizer's step, where it cannot be seen."""
        for combination in self.combinations.values():
            who = next(
                (
                    type(combiner).__name__
                    for combiner in combination.combiners
                    if _whole_gradients(combiner)
                ),
                "on_nonfinite='skip'" if combination.skips else "",
            )
            if who:
                what = ", ".join(type(one).__name__ for one in optimizers)
                raise LossweaveError(
                    f"{who} has to see the step of a torch optimizer, and none is found in the "
                    f"training's optimizer ({what}); keep it in an attribute"
                )

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
        bypass: Callable[[str, LossCombination], str] | None = None,
    ) -> None:
        """Let the combiners learn what the optimizer's step has not let them learn yet.

        Args:
            again: measures the losses of the same batch, without gradients.
            held_out: measures those of the held-out data.
            bypass: words for a combination (and the module that holds it) that the framework's
                step went around; None where that is no mistake.

        Raises:
            LossweaveError: no backward has reached any combination.
            NonFiniteLossError: too many updates were skipped in a row.
        """
        for combination in self.combinations.values():
            combination.end_iteration()
        if self.progress is None or not self.progress.last_of_update:
            return
        if bypass is not None:
            self._check_reached(bypass)
        for combination in self.combinations.values():
            if combination.recomputes and not combination.skipping:
                combination.relearn(again(combination))
        for combination in self.combinations.values():
            if combination.wants_held_out and not combination.skipping:
                combination.held_out(held_out(combination))
        self._count_skips()

    def _check_reached(self, bypass: Callable[[str, LossCombination], str]) -> None:
        """A run whose first update is not that of a combination ends; what happens later, as in a
        phase of training that optimises something else, is said once."""
        found = self.combinations.items()
        if not found or any(combination.update.backwards for _, combination in found):
            self._reached = True
            return
        if self._reached and self._told:
            return
        message = bypass(*next(iter(found)))
        if not self._reached:
            raise LossweaveError(message)
        self._told = True
        next(iter(self.combinations.values())).log(f"in this update, {message}")

    def _count_skips(self) -> None:
        if not any(combination.skipping for combination in self.combinations.values()):
            self.in_a_row = 0
            return
        self.skipped += 1
        self.in_a_row += 1
        if self.max_skips is not None and self.in_a_row >= self.max_skips:
            raise NonFiniteLossError(
                f"{self.in_a_row} updates in a row were skipped, since something in them was not "
                f"finite; {PLAIN_ADVICE}"
            )

    def logged(self, fresh: bool = True) -> dict[str, float]:
        """What logs get of all combinations. Synchronises.

        Args:
            fresh: leave out what was not computed in this update.
        """
        values: dict[str, float] = {}
        for number, combination in enumerate(self.combinations.values()):
            if fresh and not combination.update.forwards:
                continue
            values.update(combination.logged(f"_{number}" if number else ""))
        if self.skips:
            values["skipped_updates"] = float(self.skipped)
        return values

    def end(self) -> None:
        """Stop watching the optimizers."""
        for handle in self.handles:
            handle.remove()
        self.handles = []

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
        ends = self.progress is None or self.progress.last_of_update
        alone = ends and self._optimizers == 1
        left = optimizer_step.gradients(optimizer) if reading and alone else []
        if left:
            norm = self._norm(left)
            for combiner in reading:
                combiner.grad_norm(norm)

    # ----------------------------------------------------------------- what is not finite

    def look(self, losses: Mapping[str, float], total: str, everywhere: bool = False) -> str:
        """Look at an iteration's losses, once they are on the host.

        Args:
            losses: this rank's, by the names in the framework's log.
            total: the name there of what was optimised.
            everywhere: whether they are those of all ranks already; else a collective.

        Returns:
            Where some are not finite, and the update is skipped, what is to be said; else nothing.

        Raises:
            NonFiniteLossError: some are not, on any rank, and updates are not skipped; on all
                ranks, naming the same ones.
            LossweaveError: a detector weights its losses by itself, on any rank; on all.
        """
        bad = {name: value for name, value in losses.items() if not math.isfinite(value)}
        own = self._own_words()
        if not everywhere and distributed.world_size() > 1:
            device = next((p.device for p in self.model.parameters()), torch.device("cpu"))
            flags = torch.tensor([bool(bad), bool(own), asked_here()], device=device).float()
            anywhere = distributed.sum_(flags).tolist()
            tell(bool(anywhere[2]))
            if anywhere[1]:
                own = next(filter(None, distributed.gather_objects(own)))
            if anywhere[0]:
                ranks = [found for found in distributed.gather_objects(bad) if found]
                # Of a loss that is averaged over the ranks the total alone tells the others.
                bad = next((found for found in ranks if found.keys() - {total}), ranks[0])
        if own:
            raise LossweaveError(own)
        if not bad:
            return ""
        raw = {name: value for name, value in bad.items() if name != total} or bad
        words, advice = ", ".join(f"{name} is {value}" for name, value in raw.items()), PLAIN_ADVICE
        if (first := next(iter(self.combinations.values()), None)) is not None:
            words, advice = described(bad, total, first.terms, first.label), ADVICE
        at = "" if self.progress is None else f"iteration {self.progress.iteration}: "
        if not self.skips:
            raise NonFiniteLossError(f"{at}{words}; {advice}")
        return f"{at}{words}; this optimizer update is skipped"

    def _own_words(self) -> str:
        """What is to be said of a detector's own total, where it has one; read when the losses are
        on the host, so that nothing is waited for."""
        results = (one for c in self.combinations.values() for one in c.update.results)
        return next(filter(None, (own_words(result.own) for result in results)), "")

    def check_weights(self) -> None:
        """Refuse to save weights that are not finite. Synchronises: before checkpoints only.

        Raises:
            NonFiniteLossError: naming the first of them.
        """
        named = [] if self.model is None else list(self.model.named_parameters())
        weights = [p for _, p in named if p.is_floating_point() and p.numel()]
        if not weights or optimizer_step.all_finite(weights):
            return
        name = next(n for n, p in named if not p.isfinite().all())
        raise NonFiniteLossError(
            f"the weights of {name!r} are not finite, so no checkpoint is written; {PLAIN_ADVICE}"
        )

    # ---------------------------------------------------------------------- resumption

    def state_dict(self) -> dict[str, Any]:
        """What belongs in a checkpoint."""
        return {"skipped": self.skipped, "in_a_row": self.in_a_row}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of :meth:`state_dict`; a new start where it is empty."""
        self.skipped = state.get("skipped", 0)
        self.in_a_row = state.get("in_a_row", 0)


def _whole_gradients(combiner: Any) -> bool:
    """Whether it looks at the parameters' gradients, as the optimizer is given them."""
    return combiner.inactive == "hold" or combiner.reads_grad_norm
