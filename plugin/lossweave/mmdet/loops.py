"""Training loops that resume at any iteration, without loading what was trained already."""

from typing import Any

from mmdet.datasets.samplers import AspectRatioBatchSampler, ClassAwareSampler
from mmengine.dataset import DefaultSampler, InfiniteSampler
from mmengine.model import is_model_wrapper
from mmengine.runner import EpochBasedTrainLoop as MMEngineEpochBasedTrainLoop
from mmengine.runner import IterBasedTrainLoop as MMEngineIterBasedTrainLoop
from torch.utils.data import BatchSampler, DataLoader

from lossweave.errors import LossweaveError
from lossweave.host.exact_resume import refuse_memory, refuse_unknown_sampler
from lossweave.mmdet.draws import SeededBatchSampler
from lossweave.registry import LOOPS

__all__ = ["EpochBasedTrainLoop", "IterBasedTrainLoop"]


#: Samplers whose order follows from their seed and the epoch.
_KNOWN = (DefaultSampler, InfiniteSampler, ClassAwareSampler)
_KNOWN_BATCHES = (BatchSampler, AspectRatioBatchSampler)


def _numbered(dataloader: DataLoader, runner: Any) -> SeededBatchSampler:
    """The sampler of a data loader all of whose samples follow from their numbers.

    Raises:
        LossweaveError: the batches are not numbered, or something in the data has a memory.
    """
    sampler = dataloader.batch_sampler
    if not isinstance(sampler, SeededBatchSampler):
        raise LossweaveError(
            "lossweave's training loops need its data order; add to the config: "
            "train_dataloader = dict(batch_sampler=dict(type='lossweave.SeededBatchSampler'))"
        )
    refuse_unknown_sampler(sampler.sampler, _KNOWN)
    refuse_unknown_sampler(sampler.base, _KNOWN_BATCHES)
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    changing = getattr(getattr(model, "data_preprocessor", None), "batch_augments", None)
    refuse_memory(dataloader.dataset, *(changing or ()))
    return sampler


class _Endless:
    """The data loader, epoch after epoch, from any batch on."""

    def __init__(self, dataloader: DataLoader, sampler: SeededBatchSampler) -> None:
        self._dataloader = dataloader
        self._sampler = sampler
        self._iterator: Any = None
        self._position = 0
        self._passed_over = 0

    def start_at(self, batch: int) -> None:
        """Start there; the framework's own request to skip as many is then already met."""
        self._position = self._passed_over = batch

    def skip_iter(self, count: int) -> None:
        """MMEngine's request to pass over ``count`` batches."""
        self._passed_over -= count

    def __iter__(self) -> "_Endless":
        return self

    def __next__(self) -> Any:
        if self._passed_over > 0:  # older versions of MMEngine pass over them one by one
            self._passed_over -= 1
            return None
        if self._iterator is None:
            self._iterator = self._open()
        try:
            batch = next(self._iterator)
        except StopIteration:
            self._iterator = self._open()
            batch = next(self._iterator)
        self._position += 1
        return batch

    def _open(self) -> Any:
        epoch, batch, indices = 0, self._position, self._sampler.sampler
        if isinstance(indices, InfiniteSampler):
            # It has one stream; where there are workers, older versions of MMEngine draw from it
            # when they make the loop, and end it when its own iterator goes.
            indices.indices = indices._indices_of_rank()
        else:
            epoch, batch = divmod(self._position, len(self._dataloader))
        if hasattr(self._sampler.sampler, "set_epoch"):
            self._sampler.sampler.set_epoch(epoch)
        self._sampler.start_at(batch)
        return iter(self._dataloader)


def _finish(runner: Any) -> Any:
    """A training that was resumed at its end: it may have stopped before it was evaluated."""
    runner.call_hook("before_train")
    if runner.val_loop is not None:
        runner.val_loop.run()
    runner.call_hook("after_train")
    return runner.model


@LOOPS.register_module()
class IterBasedTrainLoop(MMEngineIterBasedTrainLoop):
    """MMEngine's iteration loop over numbered draws: resumes at once and exactly.

    Args: those of MMEngine's ``IterBasedTrainLoop``.

    Raises:
        LossweaveError: the data loader's batches are not numbered, or cannot be drawn again.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        sampler = _numbered(self.dataloader, self.runner)
        self.dataloader_iterator = _Endless(self.dataloader, sampler)

    def run(self) -> Any:
        """Train, from the iteration that the checkpoint had reached."""
        self.dataloader_iterator.start_at(self._iter)
        if self._iter >= self._max_iters:
            return _finish(self.runner)
        return super().run()


@LOOPS.register_module()
class EpochBasedTrainLoop(MMEngineEpochBasedTrainLoop):
    """MMEngine's epoch loop over numbered draws: resumes within an epoch, too.

    The stock loop begins the epoch anew when it resumes from a checkpoint made inside one.

    Args: those of MMEngine's ``EpochBasedTrainLoop``.

    Raises:
        LossweaveError: the data loader's batches are not numbered, or cannot be drawn again.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._draws = _numbered(self.dataloader, self.runner)

    def run(self) -> Any:
        """Train, from the epoch or the iteration that the checkpoint had reached."""
        if self._epoch >= self._max_epochs:
            return _finish(self.runner)
        return super().run()

    def run_epoch(self) -> None:
        """Train the rest of this epoch."""
        done = self._iter - self._epoch * len(self.dataloader)
        if done <= 0:
            super().run_epoch()
            return
        self.runner.call_hook("before_train_epoch")
        self.runner.model.train()
        self._draws.start_at(done)
        for index, batch in enumerate(self.dataloader, start=done):
            self.run_iter(index, batch)
        self.runner.call_hook("after_train_epoch")
        self._epoch += 1
