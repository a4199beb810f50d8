"""From a detector's raw losses to the one scalar that is optimised.

:class:`LossCombination` is what the framework adapters put into a detector. It sorts the raw
losses into terms, brings their values to all ranks, asks the combiner (or a tree of them) for
a value and weights, and returns the root scalar of the training step.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lossweave.backward import BoundaryState
from lossweave.combination import nonfinite
from lossweave.combination.across_ranks import Masks, averaged, vector
from lossweave.combination.entries import EXTRA, LossEntries, detached, sorted_into
from lossweave.combination.first_call import FirstCall, own_total, refuse_own_total
from lossweave.combination.gradients import Gradients
from lossweave.combination.inactive import Frozen, Held, parts
from lossweave.combination.log import log_values, term_values
from lossweave.combination.settling import SettledTerms
from lossweave.combination.step import StepResult
from lossweave.combination.terms import TermMap
from lossweave.combination.tree import TermNode
from lossweave.combination.update import Update
from lossweave.combination.values import value_root
from lossweave.combiners import Combiner, GradientCombiner, Sum
from lossweave.errors import LossweaveError
from lossweave.progress import Progress

__all__ = ["LossCombination"]

_LOGGER = logging.getLogger("lossweave")
LOADED_STATE = ("take", "leave")


class LossCombination(SettledTerms):
    r"""Combine the raw losses of training forwards into the scalar to be optimised.

    The scalar's value is f of the terms (averaged over the ranks unless f is linear) plus the
    extra entries; its gradient is :math:`\sum_k w_k \nabla L_k` plus theirs. Terms are
    combined in float32 (float64 stays) with autocast off.

    What counts, learns and is skipped is the optimizer UPDATE, of one iteration or of several
    that are accumulated, with one forward each or with several. A forward whose root no backward
    reaches, as one that only looks at losses, teaches nothing. This is the protocol between a
    host and a combination, whole::

        combination.set_progress(progress)        # before every iteration
        root = combination(losses, total, model)  # in every training forward: one StepResult
        root.backward()                           # tells the update that the root was reached
        # before the optimizer steps, where the host sees it (host/hook.py does):
        combination.update.note(finite)           # are all gradients? with on_nonfinite='skip'
        combination.end_iteration()               # the combiners learn, once
        combination.skipping                      # then no gradient must reach the optimizer
        combination.held(model.parameters())      # else, where combination.holds, not these
        combiner.grad_norm(norm)                  # where combiner.reads_grad_norm
        # after it:
        combination.end_iteration()               # where no step was seen; else does nothing
        combination.relearn(losses)               # the same batch, where combination.recomputes
        combination.held_out(losses)              # other data, where combination.wants_held_out
        combination.logged()                      # at the log's interval

    What it asks of a combiner, and when, is told by :class:`~lossweave.combiners.Combiner`.
    Without :meth:`set_progress` every backward counts as an update.

    Args:
        node: the combiner, or tree of combiners.
        terms: the terms' names and patterns.
        extra: what to do with entries that no pattern claims: 'add' them to the scalar as they
            are (said once in the log), or 'error'.
        on_nonfinite: 'raise' lets the framework's hook stop training, from the values that
            logging brings to the host anyway. 'skip' leaves out an optimizer update with a
            non-finite loss, value, weight or gradient: weights, momentum and combiner state stay
            as they were on every rank. It costs one reduced flag an iteration, and an update one
            look at all gradients and one synchronisation. (BatchNorm statistics were updated by
            the forward pass.)
        loaded_state: 'take' keeps learned state that comes with the checkpoint of another training
            from which this one starts (said once in the log), 'leave' starts it anew.
        hook_line: where the framework's hook is added and how, for messages, e.g. "to the
            config: default_hooks = ...".

    Raises:
        LossweaveError: an unknown option.
    """

    #: What helps where a loss is not finite.
    ADVICE = nonfinite.ADVICE
    window_skipped: Tensor

    def __init__(
        self,
        node: TermNode,
        terms: TermMap,
        extra: Literal["add", "error"] = "add",
        on_nonfinite: Literal["raise", "skip"] = "raise",
        loaded_state: Literal["take", "leave"] = "take",
        hook_line: str = "",
    ) -> None:
        super().__init__(node, terms)
        for name, value, allowed in (
            ("extra", extra, EXTRA),
            ("on_nonfinite", on_nonfinite, nonfinite.ON_NONFINITE),
            ("loaded_state", loaded_state, LOADED_STATE),
        ):
            if value not in allowed:
                raise LossweaveError(f"{name}={value!r} should be one of {', '.join(allowed)}")
        #: The outermost combiner's name, for logs and file names.
        self.label = type(node.combiner).__name__
        self.extra = extra
        #: Whether an update that is not finite is left out.
        self.skips = on_nonfinite == "skip"
        self.leaves_state = loaded_state == "leave"
        self.hook_line = hook_line
        self.log: Callable[[str], None] = _LOGGER.info
        #: All combiners of the tree, the outermost first.
        self.combiners: list[Combiner] = [one.combiner for one in node.nodes()]
        #: Whether inactive terms must leave their parameters without a gradient.
        self.holds = any(c.inactive == "hold" for c in self.combiners)
        #: Whether a combiner asks for the losses of the same batch after the update.
        self.recomputes = any(c.recompute for c in self.combiners)
        #: Whether the framework's hook serves this combination.
        self.hooked = False
        #: Where the training stands, as far as somebody has told.
        self.progress: Progress | None = None
        #: The optimizer update under way.
        self.update = Update()
        self._count = 0  # of updates, where nobody tells the progress
        self._begun = self._checked = False
        self._held, self._frozen = Held(), Frozen()
        self._masks: Masks = {}
        self._gradients = (
            Gradients(node.combiner) if isinstance(node.combiner, GradientCombiner) else None
        )
        #: Where gradients are combined; None for functions of the losses' values.
        self.boundary = None if self._gradients is None else self._gradients.boundary
        if self.boundary is not None and self.boundary.where == "representation":
            self.boundary_state = BoundaryState(self.boundary)
            self.node_last()
        if self.skips:  # saved, for checkpoints inside an accumulation window
            self.register_buffer("window_skipped", torch.zeros(1))

    @property
    def combiner(self) -> Combiner:
        """The outermost combiner."""
        return self.node.combiner

    @property
    def is_plain_sum(self) -> bool:
        """Whether the framework's own sum is what is asked for."""
        return all(isinstance(c, Sum) and c.is_plain for c in self.combiners)

    @property
    def skipping(self) -> bool:
        """Whether this update must not happen. With ``on_nonfinite='skip'`` it synchronises, once
        for all that has become known since it was last asked."""
        return self.update.skipping

    @property
    def wants_held_out(self) -> bool:
        """Whether a combiner asks for held-out losses after the current update."""
        progress = self.progress or Progress()
        return any(progress.ends_every(c.held_out_interval) for c in self.combiners)

    # ------------------------------------------------------------------------ the step

    def set_progress(self, progress: Progress, hooked: bool = True) -> None:
        """Where the training stands, before every training iteration.

        Args:
            progress: the position of the iteration.
            hooked: whether the framework's hook says so; an adapter that reads it elsewhere
                gives False, and combiners that need the hook are refused.
        """
        self.end_iteration()
        self.update.begin_iteration()
        if self.boundary is not None:
            self.boundary.forget()
        self.progress, self.hooked, self._begun = progress, hooked, False
        if progress.first_of_update:
            self._begin_update()

    def forward(
        self,
        losses: Mapping[str, Any],
        stock_total: Tensor | None = None,
        model: nn.Module | None = None,
        again: Callable[..., Mapping[str, Any]] | None = None,
        own: str = "",
        watched: Iterable[Any] | None = None,
    ) -> Tensor:
        """The scalar to be optimised.

        Args:
            losses: the raw losses by name, as :class:`LossEntries` takes them.
            stock_total: the framework's own sum of them, returned as it is where the combiner
                is the plain sum.
            model: the model whose losses these are; with several processes, combiners of
                gradients need it to know the parameters in one order.
            again: measures the losses of this batch, or of another, without gradients.
            own: the detector's own method that made the total, where it is not the framework's.
            watched: tensors that a backward passes if it is this forward's, where the framework
                makes another sum of its own in place of ``stock_total``.

        Returns:
            An attached scalar, shape ``()``, float32 or float64.

        Raises:
            LossweaveError: no losses, or in the first call patterns that match nothing, extra
                entries where they are refused, a missing hook, or a total of the detector's own
                that is not their sum.
        """
        entries = self._entries(losses)
        if not self._checked:
            FirstCall(
                self.combiners, self.extra, self.skips, self.leaves_state, self.hook_line, self.log,
                self.progress, self.hooked,
            ).check(self, entries)  # fmt: skip
        if not entries:
            raise LossweaveError("the detector's training forward returned no loss at all")
        for line in self.terms.news(entries):
            self.log(line)
        if self.progress is None and self.update.reached:
            self.end_iteration()
            self.update.begin_iteration()
        if not self._begun:
            for combiner in self.combiners:
                combiner.begin(self._position)
            self._begun = True
        expected = self.update.expect()
        if self.is_plain_sum and not self.skips and stock_total is not None:
            result, root = StepResult(detached(entries), again=again), stock_total
            expected.watch([root] if watched is None else watched)
        else:
            with torch.autocast(next(iter(entries.values())).device.type, enabled=False):
                result, root = self._combine(entries, model, again, expected)
            if own:
                result = replace(result, own=own_total(own, stock_total, entries))
        if not self._checked:
            refuse_own_total(result.own)
            self._checked = True
        if torch.is_grad_enabled():  # else somebody only looks, at a validation loss say
            self.update.add(result, expected)
        return root

    def _combine(
        self,
        entries: Mapping[str, Tensor],
        model: nn.Module | None,
        again: Callable[..., Mapping[str, Any]] | None,
        on_reached: Callable[[], None],
    ) -> tuple[StepResult, Tensor]:
        terms, extras = sorted_into(self.terms, entries, self.extra)
        if torch.is_grad_enabled():
            self._frozen.tell(terms, self.names, self.label, self.log)
        local = vector(terms, extras, self._masks, check=self.skips)
        if self.skips or any(not c.linear or c.learns for c in self.combiners):
            local = averaged(local)
        found = self.node.evaluate(local.losses, local.present)
        active, weights, fine = self.node.active(), found.weights, None
        if local.bad is not None:
            fine = nonfinite.all_finite(found.value, weights, local.bad, self.window_skipped)
            weights = torch.where(fine, weights, torch.zeros_like(weights))
        made = StepResult(
            detached(entries), local.losses, local.present, found, weights, fine, active,
            again=again,
        )  # fmt: skip
        gradients = self._gradients if torch.is_grad_enabled() else None
        # What an update to be skipped would teach in its backward must not be learned.
        if gradients is not None and (fine is None or fine.item()):
            attached = self.node.attached(terms, found.parts)
            root, kept, applied = gradients.root(
                attached, found.value, extras, model, self.log, on_reached
            )
            if kept is not None:
                weights = self.node.spread(kept, found.parts)
            return replace(made, weights=weights, applied=applied), root
        left = parts(terms, extras, active, self.holds, self._position.accumulation > 1)
        root = value_root(found.value, weights, terms, left.used, extras, on_reached, fine)
        if left.watched:
            self._held.note(terms, active, extras)
        return made, root

    def end_iteration(self) -> None:
        """Let the combiners learn from what the backward has reached since this was last called.

        Where the update ends with this iteration they take their step, from the mean over it. The
        host says so before the optimizer steps; else it is done when the next iteration begins, or
        a checkpoint is made.
        """
        reached = self.update.take()
        if not reached:
            return
        position, skipping = self._position, self.skipping
        seen = [one.evaluation for one in reached if one.evaluation is not None]
        if seen:
            self.node.learn(seen, position, skipping)
        if self.skips:
            self.window_skipped.fill_(float(skipping and not position.last_of_update))
        if self.progress is None:
            self._count += 1
            self._begun = False
            self._begin_update()

    def _begin_update(self) -> None:
        self.update.begin()
        self._held.forget()
        if self.skips:
            self.window_skipped.zero_()

    @property
    def _position(self) -> Progress:
        return self.progress or Progress(iteration=self._count)

    def _entries(self, losses: Mapping[str, Any]) -> Mapping[str, Tensor]:
        entries = LossEntries.of(losses)
        return self.terms.split(entries, entries.lists)

    # ------------------------------------------------------------- what others may ask

    def measure(self, losses: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """The terms' values over all ranks, and which are present, without learning from them.

        Args:
            losses: the raw losses by name.

        Returns:
            The values and the presence of the terms, each of shape ``(number of terms,)``.
        """
        terms, extras = sorted_into(self.terms, self._entries(losses), self.extra)
        found = averaged(vector(terms, extras, self._masks))
        return found.losses, found.present

    @torch.no_grad()
    def relearn(self, losses: Mapping[str, Any]) -> None:
        """Learn from the losses of the same batch, run once more after the update.

        Args:
            losses: the raw losses by name.
        """
        self.end_iteration()
        self.node.relearn(self.node.evaluate(*self.measure(losses)))

    @torch.no_grad()
    def held_out(self, losses: Mapping[str, Any]) -> None:
        """Learn from losses on data that is not trained on, where :attr:`wants_held_out`.

        Args:
            losses: the raw losses by name.
        """
        self.end_iteration()
        self.node.held_out(self.node.evaluate(*self.measure(losses)), self.progress or Progress())

    def held(self, parameters: Iterable[Tensor]) -> list[Tensor]:
        """The parameters that only inactive terms reach, on any rank, in this update.

        Under DDP every parameter gets a gradient; the framework's hook sets these to None
        before the optimizer steps. A collective where there are several ranks.

        Args:
            parameters: the model's parameters, in an order that all ranks share.
        """
        return self._held.among(parameters)

    def last(self) -> dict[str, dict[str, float]]:
        """Value and weight of each term in the last iteration, the mean over its forwards whose
        root was reached; empty before the first. Synchronises: for logs only.

        Example:
            >>> from lossweave.combination import build_combination
            >>> combination = build_combination("Sum", {"cls": ["loss_cls"]})
            >>> _ = combination({"loss_cls": torch.tensor(2.0, requires_grad=True)})
            >>> combination.last()
            {'cls': {'value': 2.0, 'weight': 1.0}}
        """
        results = self.update.results
        return term_values(results, self.node, self.terms) if results else {}

    def logged(self, suffix: str = "") -> dict[str, float]:
        """What the logs get: ``term_NAME`` and ``weight_NAME``, and a combiner's own measures.

        Synchronises. Empty before the first forward.

        Args:
            suffix: added to every name, where a model has several combinations.
        """
        return log_values(self.last(), self.combiner, suffix)

    # ---------------------------------------------------------------- checkpoints, copies

    def _save_to_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self.end_iteration()  # what was learned belongs to it
        super()._save_to_state_dict(*args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        self.end_iteration()
        return {**self.__dict__, "update": Update(), "_held": Held()}
