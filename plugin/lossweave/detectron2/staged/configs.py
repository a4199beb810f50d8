"""From the LazyConfig of a whole staged training to the ordinary configs of its parts."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Annotated, Any

from detectron2.config import CfgNode, LazyCall
from detectron2.solver import WarmupParamScheduler
from fvcore.common.param_scheduler import MultiStepParamScheduler
from omegaconf import DictConfig, OmegaConf

from lossweave.detectron2.configs import is_combined, with_exact_resume
from lossweave.detectron2.staged.network import MODULES, stage_network
from lossweave.detectron2.staged.proposals import FixedProposals
from lossweave.errors import LossweaveError
from lossweave.staged.plan import OWN_KEYS, Plan
from lossweave.staged.stages import Budget, Stage
from lossweave.utils.described import described as plain
from lossweave.utils.distributed import world_size
from lossweave.utils.fields import between, check_value

__all__ = [
    "deciding_of",
    "described",
    "detector_of",
    "evaluation_config",
    "has_schedule",
    "plan_of",
    "stage_config",
    "stage_model",
    "training_seed",
]

#: What of a data loader changes its speed alone, and what a seed of its own decides.
_LOADING = ("num_workers", "persistent_workers", "pin_memory", "prefetch_factor", "seed")
_PARTS = ("backbone", "rpn_head", "roi_head")
#: Detectron2's, and what makes it of a yaml config.
_MAPPERS = ("DatasetMapper", "yaml_mapper")


def has_schedule(cfg: Any) -> bool:
    """Whether a config describes a training in stages."""
    return bool(cfg.LOSSWEAVE.SCHEDULE) if isinstance(cfg, CfgNode) else "schedule" in cfg


def plan_of(cfg: DictConfig) -> Plan:
    """The plan of a config's ``schedule``, ``proposals`` and ``evaluation``.

    Raises:
        LossweaveError: it is wrong, or the config has nothing to evaluate with.
    """
    given = {
        key: OmegaConf.to_container(cfg[key], resolve=True)
        if OmegaConf.is_config(cfg[key])
        else cfg[key]
        for key in OWN_KEYS
        if cfg.get(key) is not None
    }
    plan = Plan(given, _PARTS, ("test",), ("roi_head.box_predictor",))
    if plan.proposals["nms"].get("type", "nms") != "nms":
        raise LossweaveError("proposals: Detectron2's RPN knows nms=dict(type='nms') alone")
    for key in ("train", "test", "evaluator"):
        if key not in cfg.dataloader:
            raise LossweaveError(f"training in stages needs dataloader.{key}")
    for split in ("train", "test"):
        _mapper(cfg, split)
    return plan


def training_seed(cfg: DictConfig) -> int:
    """The seed of a config; a negative one counts as 0.

    Raises:
        LossweaveError: it is no number.
    """
    seed = cfg.train.get("seed")
    check_value("train.seed", seed, Annotated[int, between(-(2**32), 2**32 - 1)] | None)
    return max(0, seed or 0)


def deciding_of(cfg: DictConfig, split: str) -> dict[str, Any]:
    """What of a config decides a training's numbers, beside its plan and its seed.

    Args:
        cfg: the whole training's.
        split: the data that it is evaluated on.
    """
    train, evaluated = (described(cfg.dataloader[each]) for each in ("train", split))
    return {
        "model": described(cfg.model),
        "dataloader": {
            "train": {k: v for k, v in train.items() if k not in _LOADING},
            split: {k: evaluated.get(k) for k in ("dataset", "mapper")},
        },
        "optimizer": described(cfg.optimizer),
        "train": {key: described(cfg.train.get(key)) for key in ("init_checkpoint", "amp")},
    }


def detector_of(cfg: DictConfig) -> Any:
    """The config of the detector itself, without what combines its losses."""
    return cfg.model.model if is_combined(cfg.model) else cfg.model


def stage_model(cfg: DictConfig, stage: Stage) -> Any:
    """The config of a stage's network; losses are combined as the config's are."""
    frozen = [
        f"{MODULES.get(p, p)}{dot}{r}" for p, dot, r in (f.partition(".") for f in stage.frozen)
    ]
    network = LazyCall(stage_network)(
        model=detector_of(cfg),
        network=list(stage.network),
        frozen=frozen,
        active_terms=None if stage.terms is None else list(stage.terms),
    )
    if not is_combined(cfg.model):
        return network
    made = copy.deepcopy(cfg.model)
    made.model = network
    return made


def stage_config(
    cfg: DictConfig, stage: Stage, start: Path, proposals: Path | None, count: int, seed: int
) -> DictConfig:
    """The config of one stage: an ordinary training of the stock kind.

    Args:
        cfg: the whole training's.
        stage: which.
        start: the weights that it starts from.
        proposals: file of the fixed proposals, if it needs any.
        count: proposals per image, at most.
        seed: of data order and sampling.

    Raises:
        LossweaveError: the training data have no counterpart that resumes exactly.
    """
    made, budget = _without_plan(cfg), stage.budget
    made.model = stage_model(cfg, stage)
    made.train.output_dir = str(Path(cfg.train.output_dir) / stage.name)
    made.train.init_checkpoint = str(start)
    made.train.max_iter, made.train.eval_period = budget.iterations, 0
    made.dataloader.pop("evaluator")  # Detectron2 evaluates at the end, whatever the period
    with_exact_resume(made)
    made.dataloader.train.seed = seed
    if budget.batch_size is not None:
        made.dataloader.train.total_batch_size = budget.batch_size * world_size()
    if budget.lr is not None:
        made.optimizer.lr = budget.lr
    if proposals is not None:
        _with_proposals(made, "train", proposals, count)
    made.lr_multiplier = _lr_multiplier(budget)
    return made


def evaluation_config(
    cfg: DictConfig, stage: Stage | None, proposals: Path | None, count: int, folder: Path
) -> DictConfig:
    """The config of an ordinary evaluation.

    Args:
        cfg: the whole training's.
        stage: whose network; None means the whole detector.
        proposals: file of fixed proposals for a network without an RPN.
        count: proposals per image, at most.
        folder: for the evaluator's files.
    """
    made = _without_plan(cfg)
    if stage is not None:
        made.model = stage_model(cfg, stage)
    made.train.output_dir = str(folder)
    if proposals is not None:
        _with_proposals(made, "test", proposals, count)
    return made


def described(value: Any) -> Any:
    """A config in plain values, functions and classes by their names.

    Example:
        >>> described(OmegaConf.create({"size": [1, 2]}))
        {'size': [1, 2]}
    """
    if OmegaConf.is_config(value):
        value = OmegaConf.to_container(value, resolve=True)
    return plain(value)


# ------------------------------------------------------------------------------- pieces


def _without_plan(cfg: DictConfig) -> DictConfig:
    made = copy.deepcopy(cfg)
    for key in OWN_KEYS:
        made.pop(key, None)
    return made


def _mapper(cfg: DictConfig, split: str) -> Any:
    mapper = cfg.dataloader[split].get("mapper")
    target = mapper.get("_target_") if OmegaConf.is_config(mapper) else None
    if getattr(target, "__name__", str(target).split(".")[-1]) not in _MAPPERS:
        raise LossweaveError(
            f"fixed proposals go through Detectron2's DatasetMapper; dataloader.{split}.mapper "
            "is another"
        )
    return mapper


def _with_proposals(cfg: DictConfig, split: str, file: Path, count: int) -> None:
    mapper = copy.deepcopy(_mapper(cfg, split))
    mapper.precomputed_proposal_topk = count if count > 0 else 2**31
    cfg.dataloader[split].mapper = LazyCall(FixedProposals)(mapper=mapper, file=str(file))


def _lr_multiplier(budget: Budget) -> Any:
    drops = [drop for drop in budget.drops if drop < budget.iterations]
    made = LazyCall(MultiStepParamScheduler)(
        values=[budget.factor**power for power in range(len(drops) + 1)],
        milestones=drops,
        num_updates=budget.iterations,
    )
    if not budget.warmup:
        return made
    return LazyCall(WarmupParamScheduler)(
        scheduler=made,
        warmup_factor=budget.warmup_factor,
        warmup_length=min(1.0, budget.warmup / budget.iterations),
        warmup_method="linear",
    )
