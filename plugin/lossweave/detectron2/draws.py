"""Detectron2's training data as numbered draws (:mod:`lossweave.host.draws`): exact resuming.

The stock loader draws from an endless sampler that begins anew in a resumed run, inside its
workers. Here batches are made in the main process and numbered by the trainer's iteration.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from detectron2.config import configurable
from detectron2.data import (
    DatasetFromList,
    DatasetMapper,
    MapDataset,
    get_detection_dataset_dicts,
)
from detectron2.data.build import trivial_batch_collator
from detectron2.data.samplers import (
    RandomSubsetTrainingSampler,
    RepeatFactorTrainingSampler,
    TrainingSampler,
)
from detectron2.utils import comm
from detectron2.utils.events import get_event_storage
from torch.utils.data import DataLoader, Sampler

from lossweave.errors import LossweaveError
from lossweave.host.draws import SeededBatch, numbered, seed_main
from lossweave.host.exact_resume import refuse_memory, refuse_unknown_sampler

__all__ = ["NumberedBatches", "NumberedLoader", "build_numbered_train_loader"]

#: Samplers whose order follows from their seed.
_KNOWN = (TrainingSampler, RepeatFactorTrainingSampler, RandomSubsetTrainingSampler)


class NumberedBatches(Sampler):
    """The batches of an endless sampler of indices, numbered from 0 and seeded by the number.

    Args:
        sampler: an endless sampler of this rank's indices, the same in every run.
        batch_size: samples per batch on this rank.
        seed: what the seeds of the samples are made of, beside rank and number.
        groups: a group for every index; samples of one group go into one batch.

    Example:
        >>> batches = NumberedBatches([0, 1, 2, 3, 4, 5], 2, seed=7, groups=[0, 1, 0, 1, 0, 1])
        >>> batches.start = 1
        >>> [(list.copy(batch), batch.key) for batch in batches]
        [([1, 3], (7, 0, 1))]
    """

    def __init__(
        self, sampler: Any, batch_size: int, seed: int, groups: Sequence[int] | None = None
    ) -> None:
        self.sampler = sampler
        self.batch_size = batch_size
        self.seed = seed
        self.groups = groups
        #: The number of the first batch of the next pass.
        self.start = 0

    def __iter__(self) -> Iterator[SeededBatch]:
        return numbered(self._batches(), (self.seed, comm.get_rank()), self.start)

    def _batches(self) -> Iterator[list[int]]:
        filling: dict[int, list[int]] = {}
        for index in self.sampler:
            group = 0 if self.groups is None else self.groups[index]
            batch = filling.setdefault(group, [])
            batch.append(index)
            if len(batch) == self.batch_size:
                yield filling.pop(group)


class NumberedLoader:
    """An endless loader whose next batch is the one of the trainer's iteration.

    A trainer makes the iterator before it has loaded a checkpoint, so the data are opened at the
    first request, where the trainer's EventStorage knows the iteration. Before every iteration
    the main process is seeded, too, by its number.

    Args:
        dataset: a map-style data set of what the model takes.
        batches: numbered batches of its indices.
        num_workers: processes that load data; what they load does not depend on their number.
        collate_fn: as for PyTorch's DataLoader; by default a batch is a list.
    """

    def __init__(
        self, dataset: Any, batches: NumberedBatches, num_workers: int = 0, collate_fn: Any = None
    ) -> None:
        self.dataset = dataset
        self.batches = batches
        self.batch_size = batches.batch_size
        self._loader = DataLoader(
            dataset,
            batch_sampler=batches,
            num_workers=num_workers,
            collate_fn=collate_fn or trivial_batch_collator,
        )

    def __iter__(self) -> Iterator[Any]:
        try:
            first = int(get_event_storage().iter)
        except AssertionError:  # no trainer
            first = 0
        self.batches.start = first
        for number, batch in enumerate(self._loader, start=first):
            seed_main(self.batches.seed, comm.get_rank(), number)
            yield batch


def _from_config(
    cfg: Any, mapper: Any = None, *, dataset: Any = None, sampler: Any = None
) -> dict[str, Any]:
    """The arguments that a yaml config stands for; a negative ``SEED`` counts as 0."""
    keypoints = cfg.MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE
    seed = max(cfg.SEED, 0)
    if dataset is None:
        dataset = get_detection_dataset_dicts(
            cfg.DATASETS.TRAIN,
            filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS,
            min_keypoints=keypoints if cfg.MODEL.KEYPOINT_ON else 0,
            proposal_files=cfg.DATASETS.PROPOSAL_FILES_TRAIN if cfg.MODEL.LOAD_PROPOSALS else None,
        )
    if sampler is None:
        sampler = _sampler(cfg, dataset, seed)
    return {
        "dataset": dataset,
        "sampler": sampler,
        "mapper": DatasetMapper(cfg, True) if mapper is None else mapper,
        "total_batch_size": cfg.SOLVER.IMS_PER_BATCH,
        "aspect_ratio_grouping": cfg.DATALOADER.ASPECT_RATIO_GROUPING,
        "num_workers": cfg.DATALOADER.NUM_WORKERS,
        "seed": seed,
    }


def _sampler(cfg: Any, dataset: Any, seed: int) -> Any:
    name = cfg.DATALOADER.SAMPLER_TRAIN
    if name == "TrainingSampler":
        return TrainingSampler(len(dataset), seed=seed)
    if name == "RepeatFactorTrainingSampler":
        factors = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(
            dataset, cfg.DATALOADER.REPEAT_THRESHOLD
        )
        return RepeatFactorTrainingSampler(factors, seed=seed)
    if name == "RandomSubsetTrainingSampler":
        ratio = cfg.DATALOADER.RANDOM_SUBSET_RATIO
        return RandomSubsetTrainingSampler(len(dataset), ratio, seed_shuffle=seed, seed_subset=seed)
    raise LossweaveError(f"DATALOADER.SAMPLER_TRAIN={name!r} is unknown to the numbered draws")


@configurable(from_config=_from_config)
def build_numbered_train_loader(
    dataset: Any,
    *,
    mapper: Any,
    sampler: Any = None,
    total_batch_size: int,
    aspect_ratio_grouping: bool = True,
    num_workers: int = 0,
    collate_fn: Any = None,
    seed: int = 0,
) -> NumberedLoader:
    """In place of ``build_detection_train_loader``: the same arguments, a yaml config or these.

    Args:
        dataset: a list of data set dicts, or a map-style data set.
        mapper: from a data set dict to what the model takes; None where the data set does it.
        sampler: an endless sampler with a seed of its own; by default a TrainingSampler.
        total_batch_size: samples per batch, over all ranks.
        aspect_ratio_grouping: whether wide and high images go into separate batches; needs data
            set dicts.
        num_workers: processes that load data.
        collate_fn: as for PyTorch's DataLoader; by default a batch is a list.
        seed: what the order and the random states follow from.

    Raises:
        LossweaveError: a batch size that the ranks cannot share, a data set that cannot be
            grouped or has no length, or something that would not draw the same again.

    Example:
        In a LazyConfig::

            dataloader.train = L(build_numbered_train_loader)(
                dataset=L(get_detection_dataset_dicts)(names="coco_2017_train"),
                mapper=L(DatasetMapper)(...), total_batch_size=16, num_workers=4)
    """
    size = comm.get_world_size()
    if total_batch_size < 1 or total_batch_size % size:
        raise LossweaveError(f"a batch of {total_batch_size} cannot be shared by {size} processes")
    groups = None
    if not isinstance(dataset, list):
        if aspect_ratio_grouping or not hasattr(dataset, "__getitem__"):
            raise LossweaveError(
                "numbered draws need a list of data set dicts, or a map-style data set with "
                "aspect_ratio_grouping=False"
            )
    elif aspect_ratio_grouping:
        groups = [int(entry["width"] > entry["height"]) for entry in dataset]
    if sampler is None:
        sampler = TrainingSampler(len(dataset), seed=seed)
    refuse_unknown_sampler(sampler, _KNOWN)
    refuse_memory(mapper, *([] if isinstance(dataset, list) else [dataset]))
    data = DatasetFromList(dataset, copy=False) if isinstance(dataset, list) else dataset
    data = data if mapper is None else MapDataset(data, mapper)
    batches = NumberedBatches(sampler, total_batch_size // size, seed, groups)
    return NumberedLoader(data, batches, num_workers, collate_fn)
