"""The hook: what a combiner needs to know, and what the optimizer must leave alone."""

import copy
import math
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

from detectron2.engine import HookBase
from detectron2.utils import comm
from detectron2.utils.events import EventStorage, get_event_storage
from torch.nn.parallel import DistributedDataParallel

from lossweave.combination import LossCombination
from lossweave.combination.entries import LossEntries
from lossweave.combination.log import entry_means
from lossweave.detectron2.detector import put_losses
from lossweave.errors import LossweaveError, NonFiniteLossError
from lossweave.host.held_out import mean_losses, seeded, untouched
from lossweave.host.hook import HostHook
from lossweave.progress import Progress

__all__ = ["CombinerHook"]

#: What dense detectors keep in a plain attribute, which no checkpoint has.
_NORMALIZER = "loss_normalizer"


class CombinerHook(HookBase):
    """Connects the combiner of a model with a Detectron2 trainer.

    It tells it the progress in optimizer updates, logs the raw losses of every iteration and, at
    an interval, ``term_NAME``, ``weight_NAME`` and the combiner's own measures, names the term
    where a loss is not finite, and keeps gradients from the optimizer where a turn holds
    parameters or an update is skipped. Its state is in the ordinary checkpoint. A model without
    a combiner trains under it as it would without. For ``AutoLoss`` it also reads the norm of
    each update's gradient, and measures losses on held-out data.

    Register it before the hook that writes, so that values are written with their iteration::

        trainer.register_hooks([CombinerHook(), hooks.PeriodicWriter(...)])

    Without the hook, as under the stock ``lazyconfig_train_net.py``, the iteration comes from the
    EventStorage and all this is logged from within the forward; combiners that need more than
    that say so.

    Args:
        interval: iterations between logged values of the combiner (20, as Detectron2's writers).
        accumulation: iterations per optimizer update, where the optimizer is wrapped so that it
            gathers gradients (Detectron2 has no setting for it).
        held_out: for ``AutoLoss(reward='held_out')``, a loader of training batches of data that
            are not trained on. On every rank its first batch is kept in memory and measured
            again and again.
        held_out_batches: how many batches.
        max_skips: updates skipped in a row (``on_nonfinite='skip'``) at which the run ends; None
            never ends it.

    Raises:
        NonFiniteLossError: in training, a loss is not finite and ``on_nonfinite`` is 'raise'; too
            many updates are skipped; a checkpoint's weights are not finite.
        LossweaveError: before it, a combiner asks for held-out losses and there is no data.
    """

    def __init__(
        self,
        interval: int = 20,
        accumulation: int = 1,
        held_out: Iterable[Any] | None = None,
        held_out_batches: int = 1,
        max_skips: int | None = 100,
    ) -> None:
        counts = (
            ("interval", interval),
            ("accumulation", accumulation),
            ("held_out_batches", held_out_batches),
            ("max_skips", 1 if max_skips is None else max_skips),
        )
        for name, value in counts:
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise LossweaveError(f"CombinerHook: {name}={value!r} should be at least 1")
        self.interval = interval
        self.accumulation = accumulation
        self.held_out, self.held_out_batches = held_out, held_out_batches
        self._batches: list[Any] = []
        self._model: Any = None
        self._loaded: dict[str, Any] = {}
        self._host = HostHook(max_skips, before=self._look)
        self._looked = True
        self._failure = ""

    # ------------------------------------------------------------------------ training

    def before_train(self) -> None:
        """Find the combiners, watch the optimizer, restore what the checkpoint kept."""
        model = _of(self.trainer, "model")
        if model is None:
            raise LossweaveError(
                f"CombinerHook: {self.trainer.__class__.__name__} has no attribute 'model'"
            )
        self._model = model.module if isinstance(model, DistributedDataParallel) else model
        with self._host.begun(self._model, [_of(self.trainer, "optimizer")]):
            self._prepare_held_out()
            self._per_epoch = _per_epoch(_of(self.trainer, "data_loader"))
            loaded, self._loaded = self._loaded, {}
            self._host.load_state_dict(loaded)
            holder = self._normalized()
            if _NORMALIZER in loaded and holder is not None:
                setattr(holder, _NORMALIZER, loaded[_NORMALIZER])

    def _prepare_held_out(self) -> None:
        where = (
            "CombinerHook(held_out=...), in a yaml config LOSSWEAVE.HELD_OUT, in a LazyConfig "
            "dataloader.held_out"
        )
        if self._host.need_held_out(self.held_out is not None, where) and not self._batches:
            with seeded(), EventStorage(0):  # the first batches, wherever a run is resumed
                self._batches = list(islice(self.held_out or (), self.held_out_batches))
            if not self._batches:
                raise LossweaveError("CombinerHook: the data of held_out has no sample")

    def before_step(self) -> None:
        """Tell the combiners where the training stands."""
        self._looked = False
        self._host.begin_iteration(
            Progress(
                iteration=self.trainer.iter,
                accumulation=self.accumulation,
                max_iterations=getattr(self.trainer, "max_iter", None),
                iterations_per_epoch=self._per_epoch,
            )
        )

    def after_step(self) -> None:
        """Look at the losses, learn from new ones where a combiner asks to, log."""
        self._look()
        self._host.end_iteration(self._again, self._held_out, self._bypass)
        at = self.trainer.iter
        if (at + 1) % self.interval == 0 or at + 1 == getattr(self.trainer, "max_iter", None):
            values = self._host.logged()
            if values and comm.is_main_process():
                get_event_storage().put_scalars(smoothing_hint=False, **values)

    def after_train(self) -> None:
        """Stop watching the optimizer; where a loss ended the run, find out which."""
        if isinstance(sys.exc_info()[1], FloatingPointError):
            try:
                self._look()  # the other ranks are waiting there for this one
            except NonFiniteLossError as error:
                self._failure = str(error)
        self._host.end()
        for combination in self._host.combinations.values():
            combination.hooked = False

    def failure(self) -> str:
        """Which losses of the last iteration were not finite, for a message.

        Detectron2's trainers end a run at a total loss that is not finite, before the optimizer
        steps and before :meth:`after_step`.
        """
        if self._failure:
            return self._failure
        found: dict[str, float] = {}
        for combination in self._host.combinations.values():
            means = entry_means(combination.update.results)
            found.update({name: float(entry) for name, entry in means.items()})
        if all(map(math.isfinite, found.values())):
            found["total_loss"] = math.nan
        try:
            return self._host.look(found, "total_loss", everywhere=True)
        except NonFiniteLossError as error:
            return str(error)

    # ----------------------------------------------------------------------- the iteration

    def _look(self) -> None:
        """Log the raw losses, and end the run at one that is not finite: once an iteration, before
        the optimizer steps if it does."""
        if self._looked:
            return
        self._looked = True
        for combination in self._host.combinations.values():
            put_losses(combination, self.trainer.iter)

    def _bypass(self, path: str, combination: LossCombination) -> str:
        # The trainer is a weak proxy, whose type is not the trainer's.
        trainer, model = self.trainer.__class__.__name__, type(self._model).__name__
        if combination.update.forwards:
            return (
                f"{trainer}.run_step runs its backward through something else than what the "
                f"forward of {path or model!r} returns, so nothing of it is combined; let it "
                "optimise the sum of that dictionary"
            )
        who = f"{model}.forward" if path else f"{trainer}.run_step"
        return (
            f"{who} never calls the forward of {path or model!r}, whose losses are to be combined, "
            "so nothing is"
        )

    def _again(self, combination: LossCombination) -> Any:
        again = combination.update.results[-1].again
        with self._same_normalizer():
            return {} if again is None else again()

    def _held_out(self, combination: LossCombination) -> Any:
        again = combination.update.results[-1].again
        if again is None:
            return {}
        with seeded(), untouched(self._model), self._same_normalizer():
            found = [LossEntries(again(batch)) for batch in copy.deepcopy(self._batches)]
        return mean_losses(found)

    @contextmanager
    def _same_normalizer(self) -> Iterator[None]:
        """What another look at the data must not move."""
        holder = self._normalized()
        normalizer = getattr(holder, _NORMALIZER, None)
        yield
        if normalizer is not None:
            setattr(holder, _NORMALIZER, normalizer)

    def _normalized(self) -> Any:
        """The detector, wherever it is in the model, that keeps a normalizer; else None."""
        modules = () if self._model is None else self._model.modules()
        # It has none before its first forward, when a checkpoint's is to be restored.
        keeps = (_NORMALIZER, "_ema_update")
        return next((m for m in modules if any(hasattr(m, name) for name in keeps)), None)

    # ---------------------------------------------------------------------- resumption

    def state_dict(self) -> dict[str, Any]:
        """What an exact resume needs and the framework leaves out."""
        self._host.check_weights()
        kept: dict[str, Any] = self._host.state_dict()
        holder = self._normalized()
        if hasattr(holder, _NORMALIZER):
            kept[_NORMALIZER] = float(getattr(holder, _NORMALIZER))
        return kept

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back what :meth:`state_dict` gave; the trainer's checkpointer calls it."""
        self._loaded = dict(state_dict)


def _of(trainer: Any, name: str) -> Any:
    """What a trainer, or the one that it wraps, keeps; None where that is nothing."""
    inner = getattr(trainer, "_trainer", None)
    return getattr(trainer, name, getattr(inner, name, None))


def _per_epoch(loader: Any) -> int | None:
    """Iterations in one pass over the data, on all ranks together."""
    size = None
    while hasattr(loader, "dataset"):  # the data set lies below what samples and groups it
        size = getattr(loader, "batch_size", None) or size
        loader = loader.dataset
    try:
        count = len(loader)
    except (TypeError, NotImplementedError):
        return None
    return max(1, count // (size * comm.get_world_size())) if size else None
