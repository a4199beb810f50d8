"""What can be known of a staged training before it begins: its data, and its stages' losses."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import MODELS
from mmengine.structures import InstanceData

from lossweave.errors import LossweaveError
from lossweave.mmdet.staged.configs import is_combined, leaves_of, stage_model
from lossweave.staged.losses import check_terms, loss_names
from lossweave.staged.plan import Plan
from lossweave.staged.stages import Schedule
from lossweave.utils.fields import COUNT, RATE, above, check_value

__all__ = ["check_data", "check_losses"]

#: Side in pixels of the pictures that the losses are tried on.
_SIDE = 128


def check_data(cfg: Config, plan: Plan) -> None:
    """Refuse data and settings of the training that are not there or mean nothing.

    Raises:
        LossweaveError: no data or evaluator for the evaluated split, no annotation file, or a
            learning rate or batch size out of range.
    """
    loader, evaluator = (cfg.get(f"{plan.split}_{part}") for part in ("dataloader", "evaluator"))
    if not (loader and evaluator):
        raise LossweaveError(f"evaluation: the config has no {plan.split}_dataloader and evaluator")
    lr = cfg.optim_wrapper.optimizer.get("lr")
    check_value("optim_wrapper.optimizer.lr", lr, Annotated[RATE, above(0)] | None)
    size = cfg.train_dataloader.get("batch_size")
    check_value("train_dataloader.batch_size", size, COUNT | None)
    for split in ("train", plan.split):
        for leaf in leaves_of(cfg[f"{split}_dataloader"].dataset):
            root, file = leaf.get("data_root") or "", leaf.get("ann_file")
            _check_file(f"{split}_dataloader", root, file, leaf.get("backend_args"))
    for each in evaluator if isinstance(evaluator, (list, tuple)) else [evaluator]:
        file, backend = each.get("ann_file"), each.get("backend_args")
        _check_file(f"{plan.split}_evaluator", "", file, backend)


def _check_file(where: str, root: str, file: Any, backend: Any) -> None:
    if not isinstance(file, str) or not file or backend or "://" in f"{root}{file}":
        return  # none, or not on a local disk
    path = Path(root) / file
    if not path.exists():
        raise LossweaveError(f"{where}: there is no annotation file {path}")


def check_losses(cfg: Config, schedule: Schedule) -> None:
    """Refuse terms that do not fit the losses of every stage's network.

    Each network is asked for its losses of two made pictures; one that cannot answer that (it
    needs masks, say) is left to its own training.

    Raises:
        LossweaveError: naming the stage and the term.
    """
    if not is_combined(cfg.model):
        return
    for stage in schedule.stages:
        model = MODELS.build(stage_model(cfg, stage))
        with torch.no_grad():
            try:
                losses, logged = _losses_of(model)
            except Exception:  # whatever a network of its own kind makes of made pictures
                continue
        entries = {name: logged[name] for name in loss_names(losses)}
        check_terms(stage.name, model.loss_combination.terms, entries, losses)


def _losses_of(model: Any) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """The losses of two made pictures, as they come and as they are logged."""
    samples = []
    for _ in range(2):
        shape = (_SIDE, _SIDE)
        meta = dict(img_shape=shape, ori_shape=shape, pad_shape=shape, scale_factor=(1.0, 1.0))
        boxes = torch.tensor([[8.0, 8.0, 72.0, 72.0]])
        samples.append(DetDataSample(metainfo=dict(meta, img_id=0, batch_input_shape=shape)))
        samples[-1].gt_instances = InstanceData(bboxes=boxes, labels=torch.zeros(1).long())
        samples[-1].ignored_instances = InstanceData(bboxes=boxes[:0], labels=torch.zeros(0).long())
        samples[-1].proposals = InstanceData(bboxes=boxes + 4, scores=torch.ones(1))
    pictures = [torch.randint(0, 255, (3, _SIDE, _SIDE), dtype=torch.uint8) for _ in samples]
    data = model.data_preprocessor(dict(inputs=pictures, data_samples=samples), True)
    losses = model.train()(**data, mode="loss")
    return losses, model.parse_losses(losses)[1]
