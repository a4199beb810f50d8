"""Searches of Detectron2's configs, yaml and lazy: what they need of one, and how they train it."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode, instantiate
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from omegaconf import OmegaConf

from lossweave.detectron2.configs import (
    check_config,
    combiner_label,
    content_of,
    is_combined,
    load_config,
    with_combiner,
    with_exact_resume,
)
from lossweave.detectron2.draws import build_numbered_train_loader
from lossweave.detectron2.staged.configs import has_schedule
from lossweave.errors import LossweaveError, wrong_input
from lossweave.host.paths import resolve_config
from lossweave.studies.ledger.result import hashed
from lossweave.studies.tune.child_in_detectron2 import write_child
from lossweave.studies.tune.keys import (
    PROBE,
    Keys,
    Scaling,
    keys_of_terms,
    probing,
    response,
    same_draws,
    sums,
)
from lossweave.studies.tune.setting import Setting
from lossweave.utils.fields import near_names

__all__ = ["find_keys", "rung_options", "setting_of", "test_scores", "write_child"]

_NEVER = 10**9
_KEY = "loss_weight"
#: Pictures on which keys are tried.
_PICTURES = 4


@dataclass(frozen=True)
class _Places:
    """Where a kind of config has what a search asks of it."""

    length: str
    rate: str
    batch: str
    seeds: tuple[str, ...]
    rungs: str
    saving: str
    folder: str
    workers: tuple[str, ...]


_YAML = _Places(
    length="SOLVER.MAX_ITER",
    rate="SOLVER.BASE_LR",
    batch="SOLVER.IMS_PER_BATCH",
    seeds=("SEED",),
    rungs="LOSSWEAVE.RUNGS",
    saving="SOLVER.CHECKPOINT_PERIOD",
    folder="OUTPUT_DIR",
    workers=("DATALOADER.NUM_WORKERS",),
)
_LAZY = _Places(
    length="train.max_iter",
    rate="optimizer.lr",
    batch="dataloader.train.total_batch_size",
    seeds=("train.seed", "dataloader.train.seed"),
    rungs="train.rungs",
    saving="train.checkpointer.period",
    folder="train.output_dir",
    workers=("dataloader.train.num_workers", "dataloader.test.num_workers"),
)


def setting_of(
    config: str, options: Sequence[str] = (), seed: int = 0, asked: str = "", jobs: int = 1
) -> Setting:
    """Read from a config what a search needs, and refuse one that cannot be searched.

    Raises:
        LossweaveError: no config, no validation set, no COCO evaluator, no rate, a combiner other
            than the sum, or a training in stages.
    """
    cfg, places = _config(config, options), _places(config)
    label = combiner_label(cfg)
    if label not in ("stock", "Sum"):
        raise LossweaveError(f"{config}: its combiner is {label}; the weights of the Sum are tuned")
    with wrong_input(config):
        with_exact_resume(copy.deepcopy(cfg))
        annotations = _annotations(cfg, config)
    rate, length = _value(cfg, places.rate), _value(cfg, places.length)
    if not rate:
        raise LossweaveError(f"{config} has no {places.rate}")
    batch = _value(cfg, places.batch)
    serial = () if torch.cuda.is_available() else places.workers
    return Setting(
        config=config,
        options=tuple(o for o in options if o.partition("=")[0] not in _beside(places)),
        seed=seed,
        length=int(length),
        unit="iterations",
        budget={"iterations": int(length), **({"batch_size": int(batch)} if batch else {})},
        hash=_identity(cfg, places),
        rate=float(rate),
        annotations=annotations,
        loading=tuple(f"{path}=0" for path in serial),
        asked=asked,
        jobs=jobs,
    )


def rung_options(setting: Setting, rate: float | None, rungs: Sequence[int]) -> tuple[str, ...]:
    """The ``--cfg-options`` of a training that is looked at at rungs, and ends at the last."""
    places = _places(setting.config)
    return (
        *setting.options,
        *(f"{path}={setting.seed}" for path in places.seeds),
        *((f"{places.rate}={rate!r}",) if rate is not None else ()),
        f"{places.rungs}=[{','.join(map(str, rungs))}]",
        f"{places.saving}={_NEVER}",  # what is gone on with is saved at a rung
        *setting.loading,
    )


def test_scores(setting: Setting, config: str, folder: Path) -> dict[str, float]:
    """None: a config of Detectron2 names one split beside the training's."""
    return {}


def find_keys(config: str, options: Sequence[str] = ()) -> Keys:
    """The keys of a config's terms, from the losses of its first training pictures.

    The model is built anew with every weight of a loss doubled in turn; the raw losses that
    double with it are those that it weighs. Nothing is trained.

    Raises:
        LossweaveError: the model or its data cannot be built.
    """
    cfg = _config(config, options)
    inner = "model.model" if combiner_label(cfg) != "stock" else "model"
    scaling = _scaling(cfg) if isinstance(cfg, CfgNode) else None
    with wrong_input(config):
        with_combiner(cfg, "Sum")
        with_exact_resume(cfg)
    with wrong_input(config), probing(), EventStorage(0):
        batch = _batch(cfg)
        model = _model(cfg)
        model(batch)  # the combination finds its terms
        before = _losses(cfg, batch)
        combination = model.loss_combination
        assigned = combination.terms.assign(before)
        terms = dict(zip(combination.names, assigned.entries, strict=True))
        responses = [
            response(path, value, before, _losses(changed, batch))
            for path, value, changed in _doubled(cfg, model, inner)
        ]
    return keys_of_terms(terms, responses, before, scaling)


# ------------------------------------------------------------------------------ the config


def _config(config: str, options: Sequence[str]) -> Any:
    with wrong_input(config):
        cfg = load_config(config, options)
        check_config(cfg)
        if has_schedule(cfg):
            raise LossweaveError(f"{config} trains in stages; name a config of joint training")
    return cfg


def _places(config: str) -> _Places:
    return _LAZY if resolve_config(config).endswith(".py") else _YAML


def _beside(places: _Places) -> tuple[str, ...]:
    """What changes nothing about what is learned, or is said by the search."""
    return (*places.seeds, *places.workers, places.folder, places.saving)


def _value(cfg: Any, path: str) -> Any:
    node = cfg
    for step in path.split("."):
        node = node.get(step) if isinstance(node, Mapping) or OmegaConf.is_dict(node) else None
    return node


def _identity(cfg: Any, places: _Places) -> str:
    """A hash of the resolved config, without what is beside it and without the combiner."""
    cfg = copy.deepcopy(cfg)
    for path in _beside(places):
        *above, last = path.split(".")
        node = _value(cfg, ".".join(above)) if above else cfg
        if isinstance(node, Mapping) or OmegaConf.is_dict(node):
            node.pop(last, None)
    if isinstance(cfg, CfgNode):
        cfg.LOSSWEAVE.pop("COMBINER")
    elif is_combined(cfg.model):
        cfg.model.pop("combiner", None)
    return hashed(content_of(cfg))


def _annotations(cfg: Any, config: str) -> str:
    """Where the validation split's COCO annotations are.

    Raises:
        LossweaveError: there is no such split, or it is scored by something else.
    """
    where = "DATASETS.TEST" if isinstance(cfg, CfgNode) else "dataloader.evaluator"
    names, evaluator = _scored(cfg)
    if not names:
        raise LossweaveError(f"{config} has no validation set ({where}), by which to choose")
    if len(names) > 1:
        raise LossweaveError(f"{config}: {where} names {len(names)} data sets; one chooses")
    (name,) = names
    if name not in DatasetCatalog:
        raise LossweaveError(
            f"{config}: {where}: there is no data set {name!r}; {near_names(name, DatasetCatalog)}"
        )
    meta = MetadataCatalog.get(name)
    kind = evaluator or meta.get("evaluator_type")
    if kind not in ("coco", "COCOEvaluator"):
        raise LossweaveError(
            f"{config}: the evaluator of {name} is {kind}; COCO's is needed, whose AP is compared"
        )
    path = meta.get("json_file")
    if not path or not Path(path).is_file():
        raise LossweaveError(f"{config}: there are no validation annotations {path!r} of {name}")
    return str(path)


def _scored(cfg: Any) -> tuple[list[str], str | None]:
    """The names of the data sets that are evaluated, and what by where the config says it."""
    if isinstance(cfg, CfgNode):
        return list(cfg.DATASETS.TEST), None
    data = cfg.get("dataloader") or {}
    test, evaluator = data.get("test"), data.get("evaluator")
    if test is None or evaluator is None:
        return [], None
    if OmegaConf.is_list(evaluator) or OmegaConf.is_list(test):
        return [f"{place}" for place in range(len(evaluator))], None
    target = evaluator.get("_target_")
    kind = getattr(target, "__name__", str(target).split(".")[-1])
    if "dataset" in test and OmegaConf.is_config(test.dataset):
        instantiate(copy.deepcopy(test.dataset))  # which may register it
    return [str(evaluator.get("dataset_name"))], kind


# ---------------------------------------------------------------------------- the probing


def _model(cfg: Any) -> Any:
    """The model as a training begins with it, the same every time."""
    same_draws()
    cpu = not torch.cuda.is_available()
    if isinstance(cfg, CfgNode):
        cfg.MODEL.DEVICE = "cpu" if cpu else cfg.MODEL.DEVICE
        return build_model(cfg).train()
    return instantiate(cfg.model).to("cpu" if cpu else cfg.train.device).train()


def _batch(cfg: Any) -> Any:
    if isinstance(cfg, CfgNode):
        serial = cfg.clone()
        serial.DATALOADER.NUM_WORKERS = 0
        loader = build_numbered_train_loader(serial)
    else:
        loader = instantiate({**cfg.dataloader.train, "num_workers": 0})
    batch = next(iter(loader))
    return batch[:_PICTURES] if isinstance(batch, list) else batch


def _losses(cfg: Any, batch: Any) -> dict[str, float]:
    """The raw losses of a batch, of a new model: some keep averages over the iterations."""
    model = _model(cfg)
    same_draws()
    with torch.no_grad():
        return sums(model(batch))


def _doubled(cfg: Any, model: Any, inner: str) -> Iterator[tuple[str, float, Any]]:
    """Every key of a weight with its value, and the config in which it is doubled."""
    if isinstance(cfg, CfgNode):
        for path, value in _weights_below(cfg.MODEL, "MODEL"):
            changed = cfg.clone()
            changed.merge_from_list([path, PROBE * value])
            yield path, value, changed
        return
    for name, module in model.named_modules():
        weight = getattr(module, _KEY, None)
        node = _value(cfg.model.model, name) if name else cfg.model.model
        if not isinstance(weight, (int, float, dict)) or not OmegaConf.is_dict(node):
            continue
        path = ".".join(part for part in (inner, name, _KEY) if part)
        entries = weight if isinstance(weight, dict) else {"": weight}
        for entry, value in entries.items():
            changed = copy.deepcopy(cfg)
            node = _value(changed.model.model, name) if name else changed.model.model
            node[_KEY] = {**entries, entry: PROBE * value} if entry else PROBE * value
            yield f"{path}.{entry}" if entry else path, float(value), changed


def _weights_below(node: Mapping[str, Any], path: str) -> Iterator[tuple[str, float]]:
    for name, value in node.items():
        if isinstance(value, Mapping):
            yield from _weights_below(value, f"{path}.{name}")
        elif name.endswith(_KEY.upper()) and isinstance(value, float):
            yield f"{path}.{name}", value


def _scaling(cfg: CfgNode) -> Scaling | None:
    """Of a yaml config, whose optimizer is SGD; None where it clips gradients."""
    if cfg.SOLVER.CLIP_GRADIENTS.ENABLED:
        return None
    names = ("WEIGHT_DECAY", "WEIGHT_DECAY_NORM", "WEIGHT_DECAY_BIAS")
    decays = {f"SOLVER.{name}": float(cfg.SOLVER[name]) for name in names if cfg.SOLVER[name]}
    return Scaling(_YAML.rate, decays)
