"""One watched training, whatever framework it runs in."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from math import sqrt
from time import perf_counter
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from lossweave.combination import LossCombination
from lossweave.errors import LossweaveError
from lossweave.host.checkpoints import contents
from lossweave.studies.diagnose.findings import shares
from lossweave.studies.diagnose.record import Look, Record
from lossweave.studies.diagnose.watch import Plan, Watch

__all__ = ["Enough", "Session", "check_fits", "quiet"]


class Enough(BaseException):
    """As many iterations are done as were asked for. No error, so no framework reports it."""


class Session:
    """Serves a framework's hook: looks, shows progress, and says when it is enough.

    Args:
        plan: when to look, given how many iterations there will be.
        limit: of the iterations; None means as many as the framework has.
        still: further batches, after the last iteration, on which the weights stand still, so that
            signal and noise can be told apart; fewer where the framework has no more iterations.
    """

    def __init__(self, plan: Callable[[int], Plan], limit: int | None, still: int = 0) -> None:
        self._plan, self._limit, self._still = plan, limit, still
        self._watch: Watch | None = None
        self._bar: Any = None
        self._begun = self._ended = perf_counter()
        self._combination: LossCombination | None = None
        #: The model that is trained, once it is.
        self.model: nn.Module | None = None
        #: Iterations that are done.
        self.iterations = 0

    def begin(
        self, model: nn.Module, optimizers: Sequence[Any], total: int, scaled: bool = False
    ) -> None:
        """Before training.

        Args:
            model: without a wrapper.
            optimizers: all that step it.
            total: the framework's iterations.
            scaled: whether a loss scaler comes before the backward.

        Raises:
            LossweaveError: the plan has no look.
        """
        self.model, self.total = model, min(total, self._limit or total)
        self._combination = next(m for m in model.modules() if isinstance(m, LossCombination))
        self._watch = Watch(self._plan(self.total))
        self._watch.begin(model, self._combination, optimizers, scaled)
        self._still = min(self._still, total - self.total)
        self._bar = tqdm(total=self.total + self._still, desc="looking", unit="iteration")
        self._begun = perf_counter()

    def before(self) -> None:
        """Before an iteration, when the combination knows its number."""
        assert self._watch is not None and self._combination is not None
        progress = self._combination.progress
        assert progress is not None
        self._watch.before(progress.iteration, progress.accumulation)

    def after(self) -> dict[str, float]:
        """After an iteration; numbers for the framework's log, where it was looked at."""
        assert self._watch is not None and self._combination is not None
        look = self._watch.after(self.iterations)
        self._bar.update()
        if self.iterations < self.total:
            self.iterations += 1
            self._ended = perf_counter()
        else:
            self._still -= 1
        return {} if look is None else scalars(look, self._combination.names)

    def stop_if_done(self) -> None:
        """After everything that belongs to an iteration.

        Raises:
            Enough: it was the last one that is asked for.
        """
        if self.iterations < self.total:
            return
        assert self._watch is not None
        if self._still <= 0 or not self._watch.looks:
            raise Enough
        if not self._watch.at_rest:
            self._watch.stand_still()

    def end(self) -> None:
        """After training, however it ended."""
        if self._watch is not None:
            self._watch.end()
        if self._bar is not None:
            self._bar.close()

    def record(self, interrupted: bool) -> Record | None:
        """What was seen; None where there was no look."""
        if self._watch is None or not self._watch.looks:
            return None
        return self._watch.record(self.iterations, self._ended - self._begun, interrupted)


def scalars(look: Look, terms: Sequence[str]) -> dict[str, float]:
    """A look as a framework's log takes it: lengths, cosines, shares of an SGD and an Adam step.

    Args:
        look: one.
        terms: their names.

    Example:
        >>> table = [[9.0, 0.0], [0.0, 1.0]]
        >>> look = Look(1, "all", [2.0, 1.0], [True, True], table, table, None, {}, table, table,
        ...             [0.0, 0.0], 3.2, 1.0, 0.1, 0.0)
        >>> scalars(look, ["cls", "loc"])["grad_norm_cls"]
        3.0
    """
    names = [term.replace(".", "_") for term in terms]
    found = {f"grad_norm_{n}": sqrt(look.shared[k][k]) for k, n in enumerate(names)}
    for what, table in (("sgd", look.sgd), ("adam", look.adam)):
        for name, share in zip(names, shares(table), strict=False):
            found[f"share_{what}_{name}"] = share
    for i, one in enumerate(names):
        for j in range(i + 1, len(names)):
            scale = sqrt(look.shared[i][i] * look.shared[j][j])
            found[f"cos_{one}_{names[j]}"] = look.shared[i][j] / scale if scale else 0.0
    return {**found, "clip_left": look.clipped}


def check_fits(model: nn.Module, checkpoint: str) -> None:
    """Refuse a checkpoint of another model, which the frameworks pass over in silence.

    Raises:
        LossweaveError: none of its tensors is one of the model's.
    """
    contents(checkpoint)  # whole, and a checkpoint
    content: Any = torch.load(checkpoint, map_location="cpu", weights_only=False)
    state = content.get("state_dict", content.get("model", content))
    own = model.state_dict()
    names = {str(name).removeprefix("module.") for name in state}
    if not names & {name for name in own if not name.startswith("loss_combination")}:
        raise LossweaveError(
            f"{checkpoint} is not of this detector: it has none of its {len(own)} tensors"
        )


def quiet(loggers: Sequence[Any], level: int = logging.WARNING) -> None:
    """Let the frameworks' loggers say on the terminal only what is wrong; files get it all."""
    for logger in loggers:
        for handler in logger.handlers:
            if not isinstance(handler, logging.FileHandler):
                handler.setLevel(level)
