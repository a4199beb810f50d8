"""Losses on data that is not trained on, measured without a trace in the training."""

import copy
from collections.abc import Mapping
from itertools import islice
from typing import Any

import torch
from mmengine.runner import Runner

from lossweave.combination.entries import LossEntries
from lossweave.errors import LossweaveError
from lossweave.host.held_out import mean_losses, seeded, untouched

__all__ = ["HeldOut", "training_losses"]


class HeldOut:
    """A few fixed batches, and the training losses of a model on them.

    The losses are those of a training forward (so the data needs a training pipeline, with its
    annotations), without gradients. Every measurement sees the same samples, augmented and
    sampled by the same random numbers, so that two of them differ by the weights alone. What
    a forward moves, random states and the model's buffers, is put back.

    Args:
        dataloader: a data loader's config, as ``train_dataloader``'s, over data that is not
            trained on.
        batches: how many of its batches are used; they stay in memory.

    Raises:
        LossweaveError: no such config, or no data.
    """

    def __init__(self, dataloader: Mapping[str, Any], batches: int = 1) -> None:
        if not isinstance(dataloader, Mapping) or "dataset" not in dataloader:
            raise LossweaveError(
                "CombinerHook: held_out should be a data loader's config with a dataset, as "
                f"train_dataloader is, but is {dataloader!r}"
            )
        config: dict[str, Any] = copy.deepcopy(dict(dataloader))
        config.setdefault("batch_size", 1)
        config.setdefault("sampler", dict(type="DefaultSampler", shuffle=False))
        with seeded():
            loader = Runner.build_dataloader(config, seed=0)
            self.batches = list(islice(loader, batches))
        if not self.batches:
            raise LossweaveError("CombinerHook: the data of held_out has no sample")

    def losses(self, model: Any, context: Any) -> LossEntries:
        """The mean of the raw losses over the batches.

        Args:
            model: an MMEngine model, in training mode.
            context: the optimizer wrapper's ``optim_context``, for its precision.
        """
        with seeded(), untouched(model):
            batches = copy.deepcopy(self.batches)
            found = [LossEntries(training_losses(model, batch, context)) for batch in batches]
        return mean_losses(found)


@torch.no_grad()
def training_losses(model: Any, batch: Any, context: Any) -> dict[str, Any]:
    """The raw losses of a training forward, without gradients.

    Args:
        model: an MMEngine model, in training mode.
        batch: what its data loader gives.
        context: the optimizer wrapper's ``optim_context``, for its precision.
    """
    with context(model):
        losses = model._run_forward(model.data_preprocessor(batch, True), mode="loss")
    return {name: value for name, value in losses.items() if "loss" in name}
