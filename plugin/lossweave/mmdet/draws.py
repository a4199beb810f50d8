"""MMDetection's batches, numbered: see :mod:`lossweave.host.draws`."""

from collections.abc import Iterator
from typing import Any

from mmengine.dist import get_dist_info
from torch.utils.data import BatchSampler, Sampler

from lossweave.host.draws import SeededBatch, numbered
from lossweave.registry import DATA_SAMPLERS

__all__ = ["SeededBatchSampler"]


@DATA_SAMPLERS.register_module()
class SeededBatchSampler(Sampler):
    """Numbers the batches of any batch sampler and seeds their samples by that number.

    In a config, beside any sampler of the framework::

        train_dataloader = dict(batch_sampler=dict(type='lossweave.SeededBatchSampler'))

    Args:
        sampler: the sampler of indices (given by the framework).
        batch_size: samples per batch (given by the framework).
        drop_last: whether an incomplete last batch is left out.
        base: the batch sampler to number, e.g. 'mmdet.AspectRatioBatchSampler' or its dict;
            None means consecutive indices.
        seed: None means the sampler's own.
    """

    def __init__(
        self,
        sampler: Any,
        batch_size: int,
        drop_last: bool = False,
        base: str | type | dict[str, Any] | None = None,
        seed: int | None = None,
    ) -> None:
        self.sampler = sampler
        self.batch_size = batch_size
        self.drop_last = drop_last
        self.seed = int(getattr(sampler, "seed", None) or 0) if seed is None else seed
        self.start = 0
        if base is None:
            self.base: Any = BatchSampler(sampler, batch_size, drop_last)
        else:
            config = dict(type=base) if isinstance(base, (str, type)) else base
            given = dict(sampler=sampler, batch_size=batch_size, drop_last=drop_last)
            self.base = DATA_SAMPLERS.build(config, default_args=given)

    def start_at(self, batch: int) -> None:
        """Leave out the first batches of the next pass, without loading them."""
        self.start = batch

    def __iter__(self) -> Iterator[SeededBatch]:
        # At the first request: a data loader with workers asks for an iterator twice.
        start, self.start = self.start, 0
        epoch, rank = int(getattr(self.sampler, "epoch", 0)), get_dist_info()[0]
        yield from numbered(self.base, (self.seed, epoch, rank), start)

    def __len__(self) -> int:
        return len(self.base)
