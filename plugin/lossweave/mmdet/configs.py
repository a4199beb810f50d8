"""What the tools do to a config: find it, wrap its model, choose its work directory."""

import inspect
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Literal

from mmengine.config import Config
from mmengine.registry import OPTIMIZERS, init_default_scope
from mmengine.runner import Runner

from lossweave.errors import LossweaveError, one_line, wrong_input
from lossweave.host import configs as host_configs
from lossweave.host.configs import check_declared
from lossweave.host.paths import resolve_config
from lossweave.mmdet.models.efficientnet_lite import refuse_rois_of_channels_last
from lossweave.utils.fields import (
    COUNT,
    COUNT_OR_NONE,
    DECAY,
    MOMENTUM,
    NAME,
    RATE,
    SEED,
    Allowed,
    above,
    between,
    near_names,
)

__all__ = [
    "check_config",
    "combiner_label",
    "content_of",
    "default_work_dir",
    "load_config",
    "type_name",
    "type_path",
    "with_combiner",
    "with_exact_resume",
    "with_safe_files",
]

_COMBINED_TYPE = "CombinedLossDetector"
_TYPE = f"lossweave.{_COMBINED_TYPE}"
#: What of a model's config says how its losses are combined.
_COMBINED = ("combiner", "terms", "extra", "on_nonfinite", "loaded_state", "penalty")
#: What may differ between a run and its continuation.
_FREE = ("work_dir", "resume", "load_from", "launcher", "custom_hooks", "visualizer")

_Whole = Annotated[float, Allowed("whole", lambda value: value >= 1 and value % 1 == 0)]
_Or_Never = Annotated[int, Allowed("at least 1, or -1", lambda count: count == -1 or count >= 1)]
_Node = Annotated[Mapping, Allowed("not empty", bool)]
_Type = NAME | Callable
#: What the values of a config may be, where the framework itself would train on with any.
_DECLARED = {
    "model": Mapping,
    "model.type": _Type,
    "model.base_detector": _Type,
    "model.extra": Literal["add", "error"],
    "model.on_nonfinite": Literal["raise", "skip"],
    "train_cfg": _Node | None,
    "train_cfg.type": _Type,
    "train_cfg.max_iters": COUNT,
    "train_cfg.max_epochs": COUNT,
    "train_cfg.val_interval": COUNT | _Whole,
    "train_dataloader": _Node | None,
    "train_dataloader.dataset": Mapping,
    "train_dataloader.batch_size": COUNT,
    "train_dataloader.num_workers": Annotated[int, between(0, 1024)],
    "optim_wrapper": _Node | None,
    "optim_wrapper.optimizer": Mapping,
    "optim_wrapper.optimizer.type": _Type,
    "optim_wrapper.optimizer.lr": RATE,
    "optim_wrapper.optimizer.weight_decay": DECAY,
    "optim_wrapper.optimizer.momentum": MOMENTUM,
    "optim_wrapper.accumulative_counts": COUNT,
    "optim_wrapper.clip_grad.max_norm": Annotated[float, above(0)],
    "auto_scale_lr.base_batch_size": COUNT,
    "default_hooks.lossweave.interval": COUNT | None,
    "default_hooks.lossweave.held_out": Mapping | None,
    "default_hooks.lossweave.held_out_batches": COUNT,
    "default_hooks.logger.interval": COUNT,
    "default_hooks.checkpoint.interval": _Or_Never,
    "default_hooks.checkpoint.max_keep_ckpts": _Or_Never,
    "train_cfg.val_begin": COUNT_OR_NONE,
    "custom_hooks": list | tuple | None,
    "env_cfg": Mapping,
    "log_level": Literal["CRITICAL", "ERROR", "WARNING", "INFO", "DEBUG", "NOTSET"] | int,
    "randomness.seed": SEED | None,
    "load_from": NAME | None,
    "work_dir": NAME | None,
    "resume": bool,
}


def type_name(kind: Any) -> str:
    """The last part of a type's name, be it a name or, in a pure-Python config, a class.

    Example:
        >>> type_name("mmdet.RetinaNet"), type_name(Config), type_name(None)
        ('RetinaNet', 'Config', '')
    """
    if kind is None or isinstance(kind, str):
        return (kind or "").split(".")[-1]
    return getattr(kind, "__name__", str(kind)).split(".")[-1]


def type_path(kind: Any) -> Any:
    """A type as a name that the registries find, which a dumped config can hold.

    Example:
        >>> type_path(Config), type_path("RetinaNet")
        ('mmengine.config.config.Config', 'RetinaNet')
    """
    if hasattr(kind, "__qualname__"):
        return f"{kind.__module__}.{kind.__qualname__}"
    return kind


def load_config(name: str, options: Mapping[str, Any] | None = None) -> Config:
    """Read a config by path or ``package::path``, with ``--cfg-options`` merged into it.

    Raises:
        LossweaveError: there is no such config, it is not readable, or an override does not fit.
    """
    path = resolve_config(name)
    try:
        cfg = Config.fromfile(path)
    except (Exception, SystemExit) as error:  # whatever the config does
        if "does not support to load" in str(error):
            raise LossweaveError(
                f"{name}: MMEngine's _base_ knows no lossweave:: or other package of that kind "
                f"({error}); name the path of the base"
            ) from error
        raise LossweaveError(f"{name}: {one_line(error)}") from error
    _refuse_misspelt(cfg, options or {})
    with wrong_input("--cfg-options"):
        cfg.merge_from_dict(dict(options or {}))
    return cfg


def _refuse_misspelt(cfg: Config, options: Mapping[str, Any]) -> None:
    """Refuse an override of what the config does not have, and has by another spelling.

    Raises:
        LossweaveError: naming both.
    """
    known = [*cfg, *inspect.signature(Runner.__init__).parameters]
    for path in options:
        name = path.split(".")[0]
        near = get_close_matches(name, known, n=1, cutoff=0.85)
        if name not in known and near:
            raise LossweaveError(
                f"--cfg-options: the config has no {name!r}; did you mean {near[0]!r}?"
            )


def check_config(cfg: Config) -> None:
    """Refuse values that mean nothing, before anything is built.

    Raises:
        LossweaveError: naming the field, its value and what is allowed.
    """
    check_declared(cfg, _DECLARED)
    refuse_rois_of_channels_last(cfg.get("model") or {})
    schedulers = cfg.get("param_scheduler") or ()
    for at, one in enumerate(schedulers if isinstance(schedulers, (list, tuple)) else ()):
        check_declared({f"param_scheduler[{at}]": one}, _scheduler(f"param_scheduler[{at}]"))
    kind = (cfg.get("optim_wrapper") or {}).get("optimizer", {}).get("type")
    if isinstance(kind, str) and _optimizer(kind, cfg.get("default_scope")) is None:
        raise LossweaveError(
            f"optim_wrapper.optimizer.type={kind!r} is no optimizer; "
            f"{near_names(kind, OPTIMIZERS.module_dict)}"
        )


def _scheduler(at: str) -> dict[str, Any]:
    """What a scheduler's fields may be, by path."""
    return {f"{at}.milestones": list[COUNT_OR_NONE], f"{at}.gamma": RATE, f"{at}.eta_min": RATE}


def _optimizer(name: str, scope: str | None) -> Any:
    """What a config's name of an optimizer means, in its scope."""
    init_default_scope(scope or "mmdet")
    with OPTIMIZERS.switch_scope_and_registry(None) as registry:
        return registry.get(name)


def with_combiner(
    cfg: Config,
    combiner: str | None = None,
    options: Mapping[str, Any] | None = None,
    terms: Any = None,
) -> Config:
    """Wrap the model of any MMDetection config, or change what wraps it already. In place.

    Args:
        cfg: a config with a ``model``.
        combiner: the combiner's name; None leaves the config's own.
        options: the combiner's arguments.
        terms: 'task', 'head', 'loss', 'layer', 'level' or a dict of patterns; None leaves the
            config's own (where it has none, 'task', or 'loss' where that fits nothing).

    Raises:
        LossweaveError: an unknown combiner or argument, options without a combiner, or a
            config without a model.
    """
    held_out = "default_hooks.lossweave.held_out"
    return host_configs.with_combiner(cfg, _change, combiner, options, terms, held_out)


def _change(
    cfg: Config, combiner: str | None, options: Mapping[str, Any], terms: Any
) -> dict[str, Any] | None:
    host_configs.refuse_no_model(cfg)
    model = cfg.model
    if not model.get("type"):
        raise LossweaveError("model.type is missing: the config names no detector")
    wrapped = type_name(model.type) == _COMBINED_TYPE
    if wrapped and "base_detector" not in model:
        raise LossweaveError("model.base_detector is missing: the detector that is to be combined")
    if combiner is None and terms is None and not wrapped:
        return None
    if not wrapped:
        model.base_detector = type_path(model.type)
        model.type = _TYPE
        model.terms = "auto"
    if combiner is not None:
        # Replaced as a whole: arguments of the config's combiner mean nothing to another.
        model.pop("combiner", None)
        model.combiner = dict(type=combiner, **options)
    if terms is not None:
        model.pop("terms", None)
        model.terms = terms
    hooks = cfg.setdefault("default_hooks", {})
    hooks.setdefault("lossweave", dict(type="lossweave.CombinerHook"))
    return {key: model[key] for key in _COMBINED if key in model}


def with_exact_resume(cfg: Config) -> Config:
    """Give any config numbered draws and the loops that resume at any iteration. In place.

    Raises:
        LossweaveError: the config has no training loop of MMEngine's.
    """
    loop = cfg.train_cfg.get("type") or (
        "EpochBasedTrainLoop" if cfg.train_cfg.get("by_epoch", True) else "IterBasedTrainLoop"
    )
    name = type_name(loop)
    if name not in ("EpochBasedTrainLoop", "IterBasedTrainLoop"):
        raise LossweaveError(f"--exact-resume knows no counterpart of the training loop {name!r}")
    cfg.train_cfg.pop("by_epoch", None)
    cfg.train_cfg.type = f"lossweave.{name}"
    base = cfg.train_dataloader.get("batch_sampler")
    if base is None or type_name(base.get("type")) != "SeededBatchSampler":
        sampler: dict[str, Any] = dict(type="lossweave.SeededBatchSampler")
        if base is not None:
            sampler["base"] = base.to_dict() if hasattr(base, "to_dict") else dict(base)
        cfg.train_dataloader.batch_sampler = sampler
    return cfg


def with_safe_files(cfg: Config) -> Config:
    """Let checkpoints be whole at any moment, and one be written on a request to stop. In place."""
    hooks = cfg.setdefault("default_hooks", {})
    hooks.setdefault("checkpoint", dict(type="CheckpointHook", interval=1))  # MMEngine's default
    checkpoint = hooks.checkpoint
    if checkpoint is not None and type_name(checkpoint.get("type")) == "CheckpointHook":
        checkpoint.type = "lossweave.CheckpointHook"
    custom = cfg.get("custom_hooks") or []
    others = [hook for hook in custom if type_name(hook.get("type")) != "SaveOnInterruptHook"]
    cfg.custom_hooks = [*others, dict(type="lossweave.SaveOnInterruptHook")]
    return cfg


def combiner_label(cfg: Config) -> str:
    """The name of the config's combiner, 'stock' where it has none."""
    if type_name(cfg.get("model", {}).get("type")) != _COMBINED_TYPE:
        return "stock"
    combiner = cfg.model.get("combiner", "Sum")
    return type_name(combiner if isinstance(combiner, (str, type)) else combiner.get("type"))


def default_work_dir(cfg: Config, config: str) -> str:
    """``work_dirs/<config>_<combiner>``, so that runs with other combiners stay apart."""
    return host_configs.default_work_dir(config, combiner_label(cfg))


def content_of(cfg: Config) -> str:
    """What of a config decides the training, as text that does not depend on its order."""
    content = {k: v for k, v in cfg.to_dict().items() if k not in _FREE}
    return repr(_sorted(content))


def _sorted(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _sorted(value[k]) for k in sorted(value, key=str)}
    return [_sorted(v) for v in value] if isinstance(value, (list, tuple)) else value
