"""What can be known of a staged training before it begins: its data, and its stages' losses."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from detectron2.config import instantiate
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from omegaconf import DictConfig

from lossweave.detectron2.configs import is_combined
from lossweave.detectron2.staged.configs import stage_model
from lossweave.detectron2.staged.proposals import entries_of, ground_truth_of
from lossweave.errors import wrong_input
from lossweave.staged.losses import check_terms, loss_names
from lossweave.staged.plan import Plan
from lossweave.staged.stages import Schedule
from lossweave.utils.fields import COUNT, RATE, above, check_value

__all__ = ["check_data", "check_losses"]

#: Side in pixels of the pictures that the losses are tried on.
_SIDE = 128


def check_data(cfg: DictConfig, plan: Plan) -> None:
    """Refuse data and settings of the training that are not there or mean nothing.

    Raises:
        LossweaveError: the evaluated data cannot be read or have no annotations, or a learning
            rate or batch size is out of range.
    """
    check_value("optimizer.lr", cfg.optimizer.get("lr"), Annotated[RATE, above(0)] | None)
    size = cfg.dataloader.train.get("total_batch_size")
    check_value("dataloader.train.total_batch_size", size, COUNT | None)
    with wrong_input(f"dataloader.{plan.split}.dataset"):
        entries = entries_of(cfg, plan.split)
    if plan.recall:
        ground_truth_of(entries[:1])
    with wrong_input("dataloader.evaluator"):
        instantiate(cfg.dataloader.evaluator)


def check_losses(cfg: DictConfig, schedule: Schedule) -> None:
    """Refuse terms that do not fit the losses of every stage's network.

    Each network is asked for its losses of two made pictures; one that cannot answer that (it
    needs masks, say) is left to its own training.

    Raises:
        LossweaveError: naming the stage and the term.
    """
    if not is_combined(cfg.model):
        return
    for stage in schedule.stages:
        model = instantiate(stage_model(cfg, stage)).to(cfg.train.device)
        try:
            losses = _losses_of(model)
        except Exception:  # whatever a network of its own kind makes of made pictures
            continue
        entries = {name: losses[name] for name in loss_names(losses)}
        check_terms(stage.name, model.loss_combination.terms, entries, losses)


def _losses_of(model: Any) -> dict[str, Any]:
    """The losses of two made pictures."""
    batch = []
    for _ in range(2):
        objects, proposals = (Instances((_SIDE, _SIDE)) for _ in range(2))
        objects.gt_boxes = Boxes(torch.tensor([[8.0, 8.0, 72.0, 72.0]]))
        objects.gt_classes = torch.zeros(1).long()
        proposals.proposal_boxes = Boxes(objects.gt_boxes.tensor + 4)
        proposals.objectness_logits = torch.ones(1)
        picture = torch.randint(0, 255, (3, _SIDE, _SIDE), dtype=torch.uint8)
        entry = dict(image=picture, instances=objects, proposals=proposals)
        batch.append(dict(entry, height=_SIDE, width=_SIDE))
    with torch.no_grad(), EventStorage(0):
        return model.train()(batch)
