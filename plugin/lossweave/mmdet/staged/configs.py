"""From the config of a whole staged training to the ordinary configs of its parts."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from mmdet.models.detectors import TwoStageDetector
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, init_default_scope

from lossweave.errors import LossweaveError
from lossweave.mmdet.configs import type_name, with_exact_resume, with_safe_files
from lossweave.mmdet.models.efficientnet_lite import refuse_rois_of_channels_last
from lossweave.mmdet.staged.transforms import UNRECORDED
from lossweave.staged.plan import OWN_KEYS, Plan
from lossweave.staged.stages import PARTS, Schedule, Stage
from lossweave.utils.fields import between, check_value

__all__ = [
    "deciding_of",
    "evaluation_config",
    "is_combined",
    "leaves_of",
    "pipelines_of",
    "plain_config",
    "plan_of",
    "proposal_loader",
    "schedule_of",
    "stage_config",
    "stage_model",
    "training_seed",
]

_OWN = ("runner_type", *OWN_KEYS)
_CONSTRUCTOR = "DefaultOptimWrapperConstructor"
#: What of a data loader changes its speed alone.
_LOADING = ("num_workers", "persistent_workers", "pin_memory", "prefetch_factor", "timeout")
_runs = itertools.count()


def plan_of(cfg: Config) -> Plan:
    """The plan of a config's ``schedule``, ``proposals`` and ``evaluation``.

    Raises:
        LossweaveError: whatever is wrong with them, or with the model or pipelines for them.
    """
    plan = Plan(_own(cfg), _parts(cfg))
    _check_detector(cfg)
    _check_pipelines(cfg, plan.schedule)
    return plan


def schedule_of(cfg: Config) -> Schedule:
    """The schedule of a config.

    Raises:
        LossweaveError: there is none, it is wrong, or the model has no two stages.
    """
    return Plan(_own(cfg), _parts(cfg)).schedule


def training_seed(cfg: Config) -> int:
    """The seed of a config, 0 without one.

    Raises:
        LossweaveError: it is no seed.
    """
    seed = (cfg.get("randomness") or {}).get("seed")
    check_value("randomness.seed", seed, Annotated[int, between(0, 2**32 - 1)] | None)
    return seed or 0


def deciding_of(cfg: Config, split: str) -> dict[str, Any]:
    """What of a config decides a training's numbers, beside its plan and its seed.

    Args:
        cfg: the whole training's.
        split: the data that it is evaluated on.
    """
    train = {k: v for k, v in cfg.train_dataloader.items() if k not in _LOADING}
    evaluated = (cfg.get(f"{split}_dataloader") or {}).get("dataset")
    return {
        "model": cfg.model,
        "train_dataloader": train,
        f"{split}_dataloader": {"dataset": evaluated},
        "optim_wrapper": cfg.optim_wrapper,
    }


def _own(cfg: Config) -> dict[str, Any]:
    return {key: cfg[key] for key in OWN_KEYS if cfg.get(key) is not None}


def _parts(cfg: Config) -> list[str]:
    model = cfg.get("model") or {}
    parts = [part for part in PARTS if model.get(part) is not None]
    for part in ("backbone", "rpn_head", "roi_head"):
        if part not in parts:
            raise LossweaveError(f"training in stages needs a two-stage detector: no model.{part}")
    refuse_rois_of_channels_last(model)
    return parts


def is_combined(model: Mapping[str, Any]) -> bool:
    """Whether the losses of a config's model are combined."""
    return type_name(model.get("type")) == "CombinedLossDetector"


def _check_detector(cfg: Config) -> None:
    model = cfg.model
    name = model.get("base_detector") if is_combined(model) else model.get("type")
    init_default_scope(cfg.get("default_scope", "mmdet"))
    with MODELS.switch_scope_and_registry(None) as registry:
        base = registry.get(name) if isinstance(name, str) else name
    ours = ("loss", "predict", "extract_feat")
    if (
        not isinstance(base, type)
        or not issubclass(base, TwoStageDetector)
        or any(getattr(base, step) is not getattr(TwoStageDetector, step) for step in ours)
    ):
        raise LossweaveError(f"{name!r} is no FasterRCNN or its kind, so it has no such stages")


def plain_config(cfg: Config, work_dir: str | Path, name: str) -> Config:
    """The config without what is about stages, for an ordinary Runner of its own.

    Args:
        cfg: the whole training's.
        work_dir: the Runner's.
        name: told apart by it in logs.
    """
    made = Config(copy.deepcopy(cfg.to_dict()), filename=None)
    for key in _OWN:
        made.pop(key, None)
    made.work_dir = str(work_dir)
    # Runners of one process are told apart by name and second; so names must differ.
    made.experiment_name = f"{Path(cfg.work_dir).name}_{name}_{next(_runs)}"
    if made.get("visualizer"):
        made.visualizer.name = made.experiment_name
    made.resume, made.load_from = False, None
    return made


def stage_model(cfg: Config, stage: Stage) -> ConfigDict:
    """The model of a stage: the config's, with heads left out and modules frozen.

    Args:
        cfg: the whole training's.
        stage: which.
    """
    model = copy.deepcopy(cfg.model)
    key = "base_detector" if is_combined(model) else "type"
    model[key] = "lossweave.StageDetector"
    for part in ("rpn_head", "roi_head"):
        if part not in stage.network:
            model[part] = None
    model.frozen = list(stage.frozen)
    model.active_terms = list(stage.active_terms) if stage.terms is not None else None
    # Weights come from the stage's own file; nothing is read or fetched twice.
    for part in (model, model.backbone):
        if "init_cfg" in part:
            part.init_cfg = None
    model.backbone.pop("pretrained", None)
    return model


def stage_config(cfg: Config, stage: Stage, proposals: Path | None, seed: int) -> Config:
    """The config of one stage: an ordinary training of the stock kind.

    Args:
        cfg: the whole training's, with its ``work_dir``.
        stage: which.
        proposals: file of the fixed proposals, if it needs any.
        seed: of data order and sampling.
    """
    made = plain_config(cfg, Path(cfg.work_dir) / stage.name, stage.name)
    budget = stage.budget
    made.model = stage_model(cfg, stage)
    made.randomness = {**_plain(made.get("randomness") or {}), "seed": seed}
    with_exact_resume(made)
    made.train_cfg = dict(type="lossweave.IterBasedTrainLoop", max_iters=budget.iterations)
    for split in ("val", "test"):
        made[f"{split}_cfg"] = made[f"{split}_dataloader"] = made[f"{split}_evaluator"] = None
    if budget.batch_size is not None:
        made.train_dataloader.batch_size = budget.batch_size
    if proposals is not None:
        _insert_proposals(made.train_dataloader.dataset, proposals)
    constructor = type_name(made.optim_wrapper.get("constructor") or _CONSTRUCTOR)
    if constructor != _CONSTRUCTOR:
        raise LossweaveError(f"stages know no counterpart of the constructor {constructor!r}")
    made.optim_wrapper.constructor = "lossweave.TrainableOptimWrapperConstructor"
    if budget.lr is not None:
        made.optim_wrapper.optimizer.lr = budget.lr
    made.param_scheduler = _param_scheduler(stage)
    hooks = made.default_hooks
    hooks.setdefault("lossweave", dict(type="lossweave.CombinerHook"))
    hooks.frozen = dict(type="lossweave.FrozenHook")
    checkpoint = hooks.setdefault("checkpoint", dict(type="CheckpointHook"))
    if checkpoint.get("by_epoch", True):  # a stage has iterations only
        checkpoint.interval = max(1, budget.iterations // 10)
    checkpoint.update(by_epoch=False, save_last=True, save_best=None)
    checkpoint.setdefault("max_keep_ckpts", 2)  # one to go back to
    with_safe_files(made)
    made.setdefault("log_processor", {})
    made.log_processor.by_epoch = False
    return made


def evaluation_config(
    cfg: Config,
    stage: Stage | None,
    split: str,
    checkpoint: Path,
    proposals: Path | None,
    folder: Path,
) -> Config:
    """The config of an ordinary evaluation.

    Args:
        cfg: the whole training's.
        stage: whose network; None means the whole detector.
        split: 'val' or 'test'.
        checkpoint: the network's weights.
        proposals: file of fixed proposals for a network without an RPN.
        folder: for the logs.
    """
    made = plain_config(cfg, folder, f"{folder.name}_{split}")
    made[f"{split}_cfg"] = made.get(f"{split}_cfg") or {}
    made.model = copy.deepcopy(cfg.model) if stage is None else stage_model(cfg, stage)
    made.load_from = str(checkpoint)
    made.train_cfg = made.train_dataloader = made.optim_wrapper = made.param_scheduler = None
    made.auto_scale_lr = None
    other = "test" if split == "val" else "val"
    made[f"{other}_cfg"] = made[f"{other}_dataloader"] = made[f"{other}_evaluator"] = None
    made.custom_hooks = []
    if proposals is not None:
        _insert_proposals(made[f"{split}_dataloader"].dataset, proposals)
    return made


def proposal_loader(cfg: Config, split: str, batch_size: int | None = None) -> ConfigDict:
    """The data of a proposal pass: a split in its order, each image once, nothing augmented.

    Args:
        cfg: the whole training's.
        split: 'train', 'val' or 'test'. The training set goes through the pipeline of the
            validation or test set.
        batch_size: None means that of the validation or test set.

    Raises:
        LossweaveError: there is no such pipeline.
    """
    evaluated = cfg.get("val_dataloader") or cfg.get("test_dataloader")
    if not evaluated:
        raise LossweaveError(
            "a proposal pass needs the pipeline of val_dataloader, which is not set"
        )
    loader = copy.deepcopy(cfg[f"{split}_dataloader"])
    if split == "train":
        # Proposals of one image, made once: neither augmented nor repeated.
        loader.dataset = _unrepeated(loader.dataset)
        pipeline = leaves_of(copy.deepcopy(evaluated.dataset))[0].pipeline
        for leaf in leaves_of(loader.dataset):
            leaf.pipeline = copy.deepcopy(pipeline)
    for leaf in leaves_of(loader.dataset):
        leaf.pipeline = [t for t in leaf.pipeline if type_name(t["type"]) != "LoadAnnotations"]
    loader.sampler = dict(type="DefaultSampler", shuffle=False)
    loader.batch_sampler = dict(type="lossweave.SeededBatchSampler")
    loader.batch_size = batch_size or evaluated.get("batch_size", 1)
    loader.persistent_workers = False
    loader.drop_last = False
    return loader


# ------------------------------------------------------------------------------- pieces


def _param_scheduler(stage: Stage) -> list[dict[str, Any]]:
    budget = stage.budget
    found: list[dict[str, Any]] = []
    if budget.warmup:
        found.append(
            dict(
                type="LinearLR",
                start_factor=budget.warmup_factor,
                by_epoch=False,
                begin=0,
                end=budget.warmup,
            )
        )
    found.append(
        dict(type="MultiStepLR", by_epoch=False, milestones=list(budget.drops), gamma=budget.factor)
    )
    return found


def _check_pipelines(cfg: Config, schedule: Schedule) -> None:
    if not any(stage.proposals for stage in schedule.stages):
        return
    for pipeline in pipelines_of(cfg.train_dataloader.dataset):
        for transform in pipeline:
            name = type_name(transform["type"])
            if name in UNRECORDED:
                raise LossweaveError(
                    f"fixed proposals cannot follow {name}, which does not record how it moves "
                    "boxes; leave it out of the training pipeline"
                )


def _insert_proposals(dataset: Any, file: Path) -> None:
    """Load fixed proposals right before the packing of every pipeline."""
    transform = dict(type="lossweave.LoadFixedProposals", file=str(file))
    done = False
    for pipeline in pipelines_of(dataset):
        for place, present in enumerate(pipeline):
            if type_name(present["type"]).startswith("Pack"):
                pipeline.insert(place, dict(transform))
                done = True
                break
    if not done:
        raise LossweaveError("the data pipeline has no PackDetInputs, so proposals find no place")


def _children(dataset: Any) -> list[Any]:
    if isinstance(dataset.get("dataset"), Mapping):
        return [dataset.dataset]
    return list(dataset.get("datasets") or [])


def leaves_of(dataset: Any) -> list[Any]:
    """The data sets themselves in the config of one, wrapped or not."""
    children = _children(dataset)
    return [leaf for child in children for leaf in leaves_of(child)] if children else [dataset]


def pipelines_of(dataset: Any) -> list[Any]:
    """Every pipeline in the config of a data set, wrapped or not."""
    own = [dataset.pipeline] if dataset.get("pipeline") else []
    return own + [p for child in _children(dataset) for p in pipelines_of(child)]


def _unrepeated(dataset: Any) -> Any:
    children = _children(dataset)
    if not children:
        return dataset
    if dataset.get("datasets"):
        dataset.datasets = [_unrepeated(child) for child in children]
        return dataset
    return _unrepeated(children[0])


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, (list, tuple)) else value
