"""What the tools do to Detectron2's configs: find, combine, choose a work directory."""

import ast
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from detectron2 import model_zoo
from detectron2.config import CfgNode, LazyCall, LazyConfig, get_cfg
from detectron2.data import build_detection_train_loader
from detectron2.utils.file_io import PathManager
from omegaconf import DictConfig, OmegaConf

from lossweave.detectron2.config_node import (
    META,
    add_lossweave_config,
    combination_options,
    new_node,
)
from lossweave.detectron2.detector import combine_losses
from lossweave.detectron2.draws import build_numbered_train_loader
from lossweave.errors import LossweaveError, one_line, wrong_input
from lossweave.host import configs as host_configs
from lossweave.host.configs import check_declared
from lossweave.host.paths import resolve_config
from lossweave.staged.plan import OWN_KEYS
from lossweave.utils.fields import (
    COUNT,
    COUNT_OR_NONE,
    DECAY,
    MOMENTUM,
    NAME,
    RATE,
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
    "is_combined",
    "load_config",
    "with_combiner",
    "with_exact_resume",
]

_ZOO = "detectron2://"
_ZOO_FOLDER = (Path(model_zoo.__file__).parent / "configs").resolve()
_Node = Annotated[Mapping, Allowed("not empty", bool)]
_Names = Annotated[list[NAME], Allowed("not empty", bool)]


def _rises(values: Sequence[int]) -> bool:
    return list(values) == sorted(set(values))


#: What the values of a config may be, where the framework itself would train on with any.
_YAML = {
    "LOSSWEAVE.EXTRA": Literal["add", "error"],
    "LOSSWEAVE.ON_NONFINITE": Literal["raise", "skip"],
    "LOSSWEAVE.HELD_OUT": tuple[str, ...] | None,
    "LOSSWEAVE.HELD_OUT_BATCHES": COUNT,
    "SOLVER.MAX_ITER": COUNT,
    "SOLVER.BASE_LR": RATE,
    "SOLVER.MOMENTUM": MOMENTUM,
    "SOLVER.WEIGHT_DECAY": DECAY,
    "SOLVER.GAMMA": RATE,
    "SOLVER.WARMUP_ITERS": COUNT_OR_NONE,
    "SOLVER.WARMUP_FACTOR": Annotated[float, between(0, 1)],
    "SOLVER.STEPS": Annotated[list[COUNT_OR_NONE], Allowed("rising", _rises)],
    "SOLVER.CLIP_GRADIENTS.CLIP_VALUE": Annotated[float, above(0)],
    "SOLVER.IMS_PER_BATCH": COUNT,
    "SOLVER.CHECKPOINT_PERIOD": COUNT,
    "TEST.EVAL_PERIOD": COUNT_OR_NONE,
    "DATASETS.TRAIN": _Names,
    "DATALOADER.NUM_WORKERS": Annotated[int, between(0, 1024)],
    "SEED": Annotated[int, between(-(2**32), 2**32 - 1)],
}
_LAZY = {
    "model": _Node,
    "optimizer": _Node,
    "lr_multiplier": _Node,
    "dataloader": _Node,
    "train": _Node,
    "train.output_dir": NAME,
    "train.init_checkpoint": str | None,
    "model.extra": Literal["add", "error"],
    "model.on_nonfinite": Literal["raise", "skip"],
    "train.max_iter": COUNT,
    "train.eval_period": COUNT_OR_NONE,
    "train.log_period": COUNT,
    "train.checkpointer.period": COUNT,
    "train.checkpointer.max_to_keep": COUNT | None,
    "train.seed": Annotated[int, between(-(2**32), 2**32 - 1)] | None,
    "optimizer.lr": RATE,
    "optimizer.weight_decay": DECAY,
    "optimizer.momentum": MOMENTUM,
    "dataloader.train": Mapping,
    "dataloader.test": Mapping | list,
    "dataloader.evaluator": Mapping | list,
    "dataloader.train.dataset.names": NAME | _Names,
    "dataloader.train.total_batch_size": COUNT,
    "dataloader.train.num_workers": Annotated[int, between(0, 1024)],
}
#: What LazyConfigs have at their top.
_NODES = ("model", "train", "optimizer", "lr_multiplier", "dataloader", *OWN_KEYS)
_UNSET = ("", ".", "output")  # Detectron2's default output directories


# ------------------------------------------------------------------------------- reading


class _ZooNode(CfgNode):
    """Opens ``detectron2://PATH`` among the configs of the model zoo, as a base, too."""

    @classmethod
    def _open_cfg(cls, filename: str) -> Any:
        _, zoo, name = filename.partition(_ZOO)
        if zoo:  # a base is looked for beside the config that names it
            filename = resolve_config(_ZOO + _normal(name))
        return PathManager.open(filename, "r")

    @classmethod
    def load_yaml_with_base(cls, filename: str, allow_unsafe: bool = False) -> Any:
        """The base class's; tags that call Python are for the installed zoo's own files alone."""
        inside = _ZOO in filename or Path(filename).resolve().is_relative_to(_ZOO_FOLDER)
        return super().load_yaml_with_base(filename, allow_unsafe=inside)


def _normal(name: str) -> str:
    """``a/../b`` as ``b``: bases of the zoo's own configs are relative."""
    parts: list[str] = []
    for part in name.split("/"):
        if part == ".." and parts:
            parts.pop()
        else:
            parts.append(part)
    return "/".join(parts)


def load_config(name: str, options: Sequence[str] = ()) -> Any:
    """Read a yaml config or a LazyConfig, with overrides merged into it.

    Args:
        name: a path, ``lossweave::PATH``, or a name of the model zoo with or without
            ``detectron2://``; a yaml config's ``_BASE_`` may be ``detectron2://PATH``, too.
        options: KEY=VALUE words; values as Detectron2 reads them.

    Returns:
        A CfgNode with a ``LOSSWEAVE`` node, or a LazyConfig's DictConfig.

    Raises:
        LossweaveError: there is no such config, it is not readable, or an override does not fit.
    """
    path = resolve_config(name)
    bad = [word for word in options if "=" not in word]
    if bad:
        raise LossweaveError(f"--cfg-options: {bad[0]!r} should be KEY=VALUE")
    try:
        if path.endswith(".py"):
            cfg = LazyConfig.load(path)
            _refuse_dropped(path, cfg)
            for option in options:
                with wrong_input(f"--cfg-options {option}"):
                    cfg = LazyConfig.apply_overrides(cfg, [option])
            return cfg
        return _load_yaml(path, options)
    except LossweaveError:
        raise
    except (Exception, SystemExit) as error:  # yaml, yacs, hydra and omegaconf have their own kinds
        near = _near(str(error).strip("'\""))
        raise LossweaveError(f"{name}: {one_line(error)}{near}") from error


def _refuse_dropped(path: str, cfg: Any) -> None:
    """Refuse what a LazyConfig's file says and its reader leaves out, as it is no dict.

    Raises:
        LossweaveError: naming it.
    """
    for statement in ast.parse(Path(path).read_text(encoding="utf-8")).body:
        targets = statement.targets if isinstance(statement, ast.Assign) else []
        for target in targets:
            if isinstance(target, ast.Name) and target.id in _NODES and target.id not in cfg:
                raise LossweaveError(f"{path}: {target.id} should be a dict")


def _near(message: str) -> str:
    """Near names for a key that yacs does not know."""
    _, unknown, path = message.partition("Non-existent config key: ")
    node: Any = add_lossweave_config(get_cfg())
    for key in path.split("."):
        if not isinstance(node, CfgNode):
            break
        if unknown and key not in node:
            return f"; {near_names(key, node)}"
        node = node.get(key)
    return ""


def check_config(cfg: Any) -> None:
    """Refuse values that mean nothing, before anything is built.

    Raises:
        LossweaveError: naming the field, its value and what is allowed.
    """
    if isinstance(cfg, CfgNode):
        check_declared(cfg, _YAML)
    else:
        check_declared(OmegaConf.to_container(cfg), _LAZY)
        data = cfg.get("dataloader") or {}
        if "evaluator" in data and "test" not in data:
            raise LossweaveError("dataloader.evaluator needs dataloader.test, and there is none")


def _load_yaml(path: str, options: Sequence[str]) -> CfgNode:
    cfg = add_lossweave_config(get_cfg())
    content = _ZooNode.load_yaml_with_base(path)
    if not isinstance(content, Mapping):
        raise LossweaveError(f"{path} holds no config: {type(content).__name__}")
    loaded = CfgNode(content)
    version = loaded.get("VERSION", cfg.VERSION)
    if version != cfg.VERSION:
        raise LossweaveError(f"{path} is of version {version}; Detectron2's is {cfg.VERSION}")
    cfg.merge_from_other_cfg(loaded)
    words = [part for option in options for part in option.split("=", 1)]
    cfg.merge_from_list(words)
    return cfg


# ------------------------------------------------------------------- what the tools change


def with_combiner(
    cfg: Any,
    combiner: str | None = None,
    options: Mapping[str, Any] | None = None,
    terms: Any = None,
) -> Any:
    """Combine the losses of any config's model, or change how they are combined. In place.

    Args:
        cfg: a yaml config's node or a LazyConfig with a ``model``.
        combiner: the combiner's name; None leaves the config's own.
        options: the combiner's arguments.
        terms: 'task', 'head', 'loss', 'layer', 'level' or a dict of patterns; None leaves the
            config's own (where it has none, 'task', or 'loss' where that fits nothing).

    Raises:
        LossweaveError: an unknown combiner or argument, options without a combiner, or a
            config without a model.
    """
    yaml = isinstance(cfg, CfgNode)
    change, held_out = (
        (_change_yaml, "LOSSWEAVE.HELD_OUT") if yaml else (_change_lazy, "dataloader.held_out")
    )
    return host_configs.with_combiner(cfg, change, combiner, options, terms, held_out)


def _change_yaml(
    cfg: CfgNode, combiner: str | None, options: Mapping[str, Any], terms: Any
) -> dict[str, Any] | None:
    wrapped = cfg.MODEL.META_ARCHITECTURE == META
    if combiner is None and terms is None and not wrapped:
        return None
    node = cfg.LOSSWEAVE
    if not wrapped:
        node.BASE_DETECTOR = cfg.MODEL.META_ARCHITECTURE
        cfg.MODEL.META_ARCHITECTURE = META
        if node.TERMS == "task":  # the default, which nobody has asked for here
            node.TERMS = "auto"
    if combiner is not None:
        # Replaced as a whole: arguments of the config's combiner mean nothing to another.
        node.COMBINER.TYPE = combiner
        node.COMBINER.ARGS = new_node(options)
    if isinstance(terms, str):
        node.TERMS, node.TERM_PATTERNS = terms, new_node({})
    elif terms is not None:
        node.TERM_PATTERNS = new_node(terms)
    return combination_options(cfg)[1]


def _change_lazy(
    cfg: DictConfig, combiner: str | None, options: Mapping[str, Any], terms: Any
) -> dict[str, Any] | None:
    host_configs.refuse_no_model(cfg)
    wrapped = is_combined(cfg.model)
    if combiner is None and terms is None and not wrapped:
        return None
    if not wrapped:
        cfg.model = LazyCall(combine_losses)(model=cfg.model, terms="auto")
    if combiner is not None:
        cfg.model.combiner = {"type": combiner, **options}
    if terms is not None:
        cfg.model.terms = terms
    given = {key: cfg.model[key] for key in cfg.model if key not in ("model", "_target_")}
    made: Any = given.get("combiner")
    if OmegaConf.is_config(made) and "_target_" in made:  # L(PCGrad)(...)
        given.pop("combiner")
    if "_target_" in str(given.get("penalty")):  # L(ParameterPenalty)(...), checked when it is made
        given.pop("penalty")
    return {
        key: OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
        for key, value in given.items()
    }


def is_combined(model: Any) -> bool:
    """Whether a LazyConfig's model is wrapped by :func:`lossweave.detectron2.combine_losses`."""
    target = model.get("_target_")
    name = f"{combine_losses.__module__}.{combine_losses.__name__}"
    return target is combine_losses or target in (name, "lossweave.detectron2.combine_losses")


def with_exact_resume(cfg: Any) -> Any:
    """Give any config numbered draws, so that it resumes exactly at any iteration. In place.

    Raises:
        LossweaveError: a LazyConfig whose training loader is not Detectron2's.
    """
    if isinstance(cfg, CfgNode):
        cfg.LOSSWEAVE.NUMBERED_DRAWS = True
        return cfg
    stock, ours = build_detection_train_loader, build_numbered_train_loader
    target = cfg.dataloader.train.get("_target_")
    named = getattr(target, "__name__", str(target).split(".")[-1])
    if named == stock.__name__:
        cfg.dataloader.train._target_ = ours
        cfg.dataloader.train.seed = max(0, cfg.train.get("seed", 0) or 0)
    elif named != ours.__name__:
        raise LossweaveError(
            f"--exact-resume knows no counterpart of the training loader {named!r}"
        )
    return cfg


def combiner_label(cfg: Any) -> str:
    """The name of the config's combiner, 'stock' where it has none."""
    if isinstance(cfg, CfgNode):
        combined = cfg.MODEL.META_ARCHITECTURE == META
        return cfg.LOSSWEAVE.COMBINER.TYPE if combined else "stock"
    if not is_combined(cfg.model):
        return "stock"
    combiner = cfg.model.get("combiner", "Sum")
    if isinstance(combiner, str):
        return combiner
    target = combiner.get("type") or combiner.get("_target_")
    return getattr(target, "__name__", str(target).split(".")[-1])


def default_work_dir(cfg: Any, config: str) -> str:
    """The config's own output directory, else ``work_dirs/<config>_<combiner>``."""
    own = cfg.OUTPUT_DIR if isinstance(cfg, CfgNode) else cfg.train.output_dir
    if str(Path(own)) not in _UNSET:
        return own
    return host_configs.default_work_dir(config, combiner_label(cfg))


def content_of(cfg: Any) -> str:
    """What of a config decides the training, as text: what Detectron2 writes as ``config.yaml``."""
    if isinstance(cfg, CfgNode):
        return cfg.dump()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        LazyConfig.save(cfg, str(path))
        return path.read_text() if path.is_file() else ""
