"""The hook: what a combiner needs to know, and what the optimizer must leave alone."""

import copy
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

from detectron2.engine import HookBase
from detectron2.utils import comm
from detectron2.utils.events import EventStorage, get_event_storage
from torch.nn.parallel import DistributedDataParallel

from lossweave.combination import LossCombination
from lossweave.detectron2.detector import CombinedLossMixin, put_losses
from lossweave.errors import LossweaveError
from lossweave.host import optimizer_step
from lossweave.host.held_out import mean_losses, seeded, untouched
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

    Raises:
        LossweaveError: in training, a loss is not finite and ``on_nonfinite`` is 'raise';
            before it, a combiner asks for held-out losses and there is no data.
    """

    def __init__(
        self,
        interval: int = 20,
        accumulation: int = 1,
        held_out: Iterable[Any] | None = None,
        held_out_batches: int = 1,
    ) -> None:
        counts = (
            ("interval", interval),
            ("accumulation", accumulation),
            ("held_out_batches", held_out_batches),
        )
        for name, value in counts:
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise LossweaveError(f"CombinerHook: {name}={value!r} should be at least 1")
        self.interval = interval
        self.accumulation = accumulation
        self.held_out, self.held_out_batches = held_out, held_out_batches
        self._batches: list[Any] = []
        self._loaded: dict[str, Any] = {}
        self._handle: Any = None
        self._skipped = 0
        self._model: Any = None
        self._combination: LossCombination | None = None

    # ------------------------------------------------------------------------ training

    def before_train(self) -> None:
        """Find the combiner, watch the optimizer, restore what the checkpoint kept."""
        model = self.trainer.model
        self._model = model.module if isinstance(model, DistributedDataParallel) else model
        self._combination = None
        if isinstance(self._model, CombinedLossMixin):
            self._combination = self._model.loss_combination
        self._load_held_out()
        self._per_epoch = _per_epoch(self.trainer.data_loader)
        optimizer = self.trainer.optimizer
        self._handle = optimizer.register_step_pre_hook(self._before_optimizer_step)
        loaded, self._loaded = self._loaded, {}
        self._skipped = loaded.get("skipped", 0)
        if _NORMALIZER in loaded:
            setattr(self._model, _NORMALIZER, loaded[_NORMALIZER])

    def before_step(self) -> None:
        """Tell the combiner where the training stands."""
        if self._combination is not None:
            self._progress = Progress(
                iteration=self.trainer.iter,
                accumulation=self.accumulation,
                max_iterations=self.trainer.max_iter,
                iterations_per_epoch=self._per_epoch,
            )
            self._combination.set_progress(self._progress)

    def after_step(self) -> None:
        """Log, and learn from the new losses where the combiner asks to."""
        combination, at = self._combination, self.trainer.iter
        if combination is None:
            return
        put_losses(self._model, at)
        if self._progress.last_of_update:
            self._recompute(combination)
            self._judge(combination)
            self._skipped += combination.skipping
        if (at + 1) % self.interval == 0 or at + 1 == self.trainer.max_iter:
            values = combination.logged()
            if combination.on_nonfinite == "skip":
                values["skipped_updates"] = float(self._skipped)
            if comm.is_main_process():
                get_event_storage().put_scalars(smoothing_hint=False, **values)

    def after_train(self) -> None:
        """Stop watching the optimizer; where a loss ended the run, say which."""
        if self._handle is not None:
            self._handle.remove()
            self._handle = None
        if self._combination is not None:
            self._combination.hooked = False

    def failure(self) -> str:
        """Which losses of the last iteration were not finite, for a message; empty if none.

        Detectron2's trainers end a run at a total loss that is not finite, before the optimizer
        steps and before :meth:`after_step`.
        """
        entries = getattr(self._model, "loss_entries", None)
        if self._combination is None or not entries:
            return ""
        values = {name: float(entry) for name, entry in entries.items()}
        bad = {name: value for name, value in values.items() if not math.isfinite(value)}
        what = self._combination.describe(bad or {"total_loss": math.nan}, "total_loss")
        return f"iteration {self.trainer.iter}: {what}; {self._combination.ADVICE}"

    # ----------------------------------------------------------------------- optimizer

    def _before_optimizer_step(self, optimizer: Any, *_: Any) -> None:
        combination = self._combination
        if combination is None:
            return
        optimizer_step.withhold(combination, optimizer, self._model)
        if combination.combiner.reads_grad_norm and not combination.skipping:
            grads = optimizer_step.gradients(optimizer)
            if grads:
                combination.combiner.grad_norm(optimizer_step.norm(grads))

    def _recompute(self, combination: LossCombination) -> None:
        if combination.recomputes and not combination.skipping:
            with self._same_normalizer():
                combination.relearn(self._model.loss_again(self._model.loss_batch))

    def _load_held_out(self) -> None:
        if self._combination is None:
            return
        asking = [c for c in self._combination.combiners if c.held_out_interval]
        if not asking:
            return
        if self.held_out is None:
            raise LossweaveError(
                f"{type(asking[0]).__name__} asks for held-out losses; give their data to the "
                "hook, CombinerHook(held_out=...), in a yaml config LOSSWEAVE.HELD_OUT, in a "
                "LazyConfig dataloader.held_out"
            )
        if not self._batches:
            with seeded(), EventStorage(0):  # the first batches, wherever a run is resumed
                self._batches = list(islice(self.held_out, self.held_out_batches))
        if not self._batches:
            raise LossweaveError("CombinerHook: the data of held_out has no sample")

    def _judge(self, combination: LossCombination) -> None:
        if not combination.judged or combination.skipping:
            return
        with seeded(), untouched(self._model), self._same_normalizer():
            found = [self._model.loss_again(batch) for batch in copy.deepcopy(self._batches)]
        combination.held_out(mean_losses(found))

    @contextmanager
    def _same_normalizer(self) -> Iterator[None]:
        """What another look at the data must not move."""
        normalizer = getattr(self._model, _NORMALIZER, None)
        yield
        if normalizer is not None:
            setattr(self._model, _NORMALIZER, normalizer)

    # ---------------------------------------------------------------------- resumption

    def state_dict(self) -> dict[str, Any]:
        """What an exact resume needs and the framework leaves out."""
        kept: dict[str, Any] = {"skipped": self._skipped}
        normalizer = getattr(self._model, _NORMALIZER, None)
        if normalizer is not None:
            kept[_NORMALIZER] = float(normalizer)
        return kept

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back what :meth:`state_dict` gave; the trainer's checkpointer calls it."""
        self._loaded = dict(state_dict)


def _per_epoch(loader: Any) -> int | None:
    """Iterations in one pass over the data, on all ranks together."""
    size = None
    while hasattr(loader, "dataset"):  # the data set lies below what samples and groups it
        size = getattr(loader, "batch_size", None) or size
        loader = loader.dataset
    try:
        count = len(loader)
    except TypeError:
        return None
    return max(1, count // (size * comm.get_world_size())) if size else None
