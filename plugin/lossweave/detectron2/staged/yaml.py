"""A yaml config with a schedule in its ``LOSSWEAVE`` node, as the LazyConfig that it stands for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from detectron2.config import CfgNode, LazyCall, get_cfg
from detectron2.data import (
    DatasetMapper,
    build_detection_test_loader,
    build_detection_train_loader,
    get_detection_dataset_dicts,
)
from detectron2.model_zoo import get_config
from detectron2.modeling import build_model
from detectron2.solver import build_lr_scheduler, get_default_optimizer_params
from detectron2.solver.build import maybe_add_gradient_clipping
from omegaconf import DictConfig, OmegaConf
from torch import nn

from lossweave.detectron2.config_node import (
    META,
    add_lossweave_config,
    combination_options,
    plain_node,
)
from lossweave.detectron2.detector import combine_losses
from lossweave.detectron2.yaml import evaluator_of
from lossweave.errors import LossweaveError
from lossweave.staged.plan import OWN_KEYS

__all__ = ["lazy_of", "yaml_evaluator", "yaml_mapper", "yaml_model", "yaml_optimizer"]

#: What of a yaml config a detector and its data are made of.
_PARTS = ("VERSION", "MODEL", "INPUT", "TEST", "DATASETS", "VIS_PERIOD")


def lazy_of(cfg: CfgNode) -> DictConfig:
    """What a yaml config says, as a LazyConfig; its schedule trains in stages as that one's does.

    Learning rate, batch size and what else the stages' budgets leave open are those of
    ``SOLVER``; its number of iterations and its steps belong to the ordinary training.

    Args:
        cfg: with a schedule in its ``LOSSWEAVE`` node.

    Raises:
        LossweaveError: it asks for what stages have none of.
    """
    if len(cfg.DATASETS.TEST) != 1:
        raise LossweaveError(
            f"DATASETS.TEST={tuple(cfg.DATASETS.TEST)!r} should be one data set: training in "
            "stages is evaluated on one"
        )
    if cfg.DATALOADER.SAMPLER_TRAIN != "TrainingSampler":
        raise LossweaveError(
            f"DATALOADER.SAMPLER_TRAIN={cfg.DATALOADER.SAMPLER_TRAIN!r} should be "
            "'TrainingSampler' for training in stages"
        )
    if cfg.SOLVER.REFERENCE_WORLD_SIZE:
        raise LossweaveError(
            f"SOLVER.REFERENCE_WORLD_SIZE={cfg.SOLVER.REFERENCE_WORLD_SIZE} should be 0: stages "
            "have batch sizes and learning rates of their own"
        )
    made = OmegaConf.create(flags={"allow_objects": True})
    made.train, made.dataloader = _train(cfg), _dataloader(cfg)
    made.model, made.optimizer = _model(cfg), _optimizer(cfg)
    made.lr_multiplier = LazyCall(build_lr_scheduler)()  # every stage has its own
    for key in OWN_KEYS:
        if given := plain_node(cfg.LOSSWEAVE[key.upper()]):
            made[key] = given
    return made


# -------------------------------------------------------------- what the LazyConfig calls


def yaml_model(cfg: Mapping[str, Any]) -> nn.Module:
    """The detector of a yaml config's content, without what combines its losses."""
    return build_model(_node(cfg))


def yaml_mapper(
    cfg: Mapping[str, Any], is_train: bool, precomputed_proposal_topk: int | None = None
) -> DatasetMapper:
    """The mapper of a yaml config's content; proposals are the stage's."""
    arguments = DatasetMapper.from_config(_node(cfg), is_train)
    return DatasetMapper(**{**arguments, "precomputed_proposal_topk": precomputed_proposal_topk})


def yaml_evaluator(cfg: Mapping[str, Any], dataset: str, output_dir: str) -> Any:
    """The evaluator that the data set's metadata name."""
    node = _node(cfg)
    node.OUTPUT_DIR = output_dir
    return evaluator_of(node, dataset)


def yaml_optimizer(
    params: Sequence[Any], clipping: Mapping[str, Any], **options: Any
) -> torch.optim.Optimizer:
    """SGD, as ``SOLVER`` describes it.

    Args:
        params: as PyTorch's optimizer takes them.
        clipping: the content of ``SOLVER.CLIP_GRADIENTS``.
        options: of PyTorch's SGD.
    """
    node = get_cfg()
    node.SOLVER.CLIP_GRADIENTS.merge_from_other_cfg(CfgNode(_plain(clipping)))
    return maybe_add_gradient_clipping(node, torch.optim.SGD)(params, **options)


# ------------------------------------------------------------------------------- pieces


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def _node(content: Mapping[str, Any]) -> CfgNode:
    """The config whose parts were handed over; its own lists are tuples where Detectron2's are."""
    node = add_lossweave_config(get_cfg())
    node.set_new_allowed(True)
    node.merge_from_other_cfg(CfgNode(_plain(content)))
    return node


def _content(cfg: CfgNode, base: str | None = None) -> dict[str, Any]:
    """What a detector and its data are made of, without what differs from machine to machine."""
    parts = {key: plain_node(cfg[key]) for key in _PARTS}
    model = {**parts["MODEL"], "DEVICE": "cpu", "WEIGHTS": ""}
    return {**parts, "MODEL": model if base is None else {**model, "META_ARCHITECTURE": base}}


def _model(cfg: CfgNode) -> Any:
    if cfg.MODEL.META_ARCHITECTURE != META:
        return LazyCall(yaml_model)(cfg=_content(cfg))
    base, options = combination_options(cfg)
    return LazyCall(combine_losses)(model=LazyCall(yaml_model)(cfg=_content(cfg, base)), **options)


def _train(cfg: CfgNode) -> DictConfig:
    train = get_config("common/train.py").train
    train.output_dir, train.init_checkpoint = cfg.OUTPUT_DIR, cfg.MODEL.WEIGHTS
    train.max_iter, train.eval_period = cfg.SOLVER.MAX_ITER, cfg.TEST.EVAL_PERIOD
    train.amp.enabled, train.device = cfg.SOLVER.AMP.ENABLED, cfg.MODEL.DEVICE
    train.checkpointer = dict(period=cfg.SOLVER.CHECKPOINT_PERIOD, max_to_keep=None)
    train.ddp = dict(broadcast_buffers=False, find_unused_parameters=False, fp16_compression=False)
    train.seed = None if cfg.SEED < 0 else cfg.SEED
    return train


def _dataloader(cfg: CfgNode) -> dict[str, Any]:
    keypoints = cfg.MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE
    content, workers = _content(cfg), cfg.DATALOADER.NUM_WORKERS
    [test] = cfg.DATASETS.TEST
    return {
        "train": LazyCall(build_detection_train_loader)(
            dataset=LazyCall(get_detection_dataset_dicts)(
                names=list(cfg.DATASETS.TRAIN),
                filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS,
                min_keypoints=keypoints if cfg.MODEL.KEYPOINT_ON else 0,
            ),
            mapper=LazyCall(yaml_mapper)(cfg=content, is_train=True),
            total_batch_size=cfg.SOLVER.IMS_PER_BATCH,
            aspect_ratio_grouping=cfg.DATALOADER.ASPECT_RATIO_GROUPING,
            num_workers=workers,
        ),
        "test": LazyCall(build_detection_test_loader)(
            dataset=LazyCall(get_detection_dataset_dicts)(names=[test], filter_empty=False),
            mapper=LazyCall(yaml_mapper)(cfg=content, is_train=False),
            num_workers=workers,
        ),
        "evaluator": LazyCall(yaml_evaluator)(
            cfg=content, dataset=test, output_dir="${train.output_dir}"
        ),
    }


def _optimizer(cfg: CfgNode) -> Any:
    solver = cfg.SOLVER
    params = LazyCall(get_default_optimizer_params)(
        weight_decay_norm=solver.WEIGHT_DECAY_NORM,
        weight_decay_bias=solver.WEIGHT_DECAY_BIAS,
    )
    if solver.BIAS_LR_FACTOR not in (None, 1.0):
        params.base_lr, params.bias_lr_factor = "${..lr}", solver.BIAS_LR_FACTOR
    return LazyCall(yaml_optimizer)(
        params=params,
        clipping=plain_node(solver.CLIP_GRADIENTS),
        lr=solver.BASE_LR,
        momentum=solver.MOMENTUM,
        nesterov=solver.NESTEROV,
        weight_decay=solver.WEIGHT_DECAY,
    )
