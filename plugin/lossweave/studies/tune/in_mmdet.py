"""Searches of MMDetection's configs: what they need of one, and how they train it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from torch import nn

from lossweave.errors import LossweaveError, wrong_input
from lossweave.host.paths import resolve_config
from lossweave.mmdet.configs import combiner_label, load_config, type_name, with_combiner
from lossweave.studies.ledger.identity import config_hash, without_harmless
from lossweave.studies.runs.method import RATE
from lossweave.studies.runs.processes import call
from lossweave.studies.runs.training import parsed_options, read_test_metrics, serial_loading
from lossweave.studies.tune.child_in_mmdet import write_child
from lossweave.studies.tune.keys import (
    PROBE,
    Keys,
    Response,
    keys_of_terms,
    probing,
    response,
    same_draws,
    sums,
)
from lossweave.studies.tune.setting import Setting

__all__ = ["find_keys", "rung_options", "setting_of", "test_scores", "write_child"]

_NEVER = 10**9
_KEY = "loss_weight"
_TEST = {
    "ap": "coco/bbox_mAP", "ap50": "coco/bbox_mAP_50", "ap75": "coco/bbox_mAP_75",
}  # fmt: skip


def setting_of(
    config: str, options: Sequence[str] = (), seed: int = 0, asked: str = "", jobs: int = 1
) -> Setting:
    """Read from a config what a search needs, and refuse one that cannot be searched.

    Raises:
        LossweaveError: no config, no validation set, no COCO metric, no rate, a combiner other
            than the sum, or a training loop of another kind.
    """
    cfg = load_config(config, parsed_options(options))
    label = combiner_label(cfg)
    if label not in ("stock", "Sum"):
        raise LossweaveError(f"{config}: its combiner is {label}; the weights of the Sum are tuned")
    loop = cfg.get("train_cfg") or {}
    unit = "iterations" if loop.get("max_iters") else "epochs"
    length = loop.get("max_iters") or loop.get("max_epochs")
    if not length:
        raise LossweaveError(f"{config}: train_cfg has neither max_iters nor max_epochs")
    rate = ((cfg.get("optim_wrapper") or {}).get("optimizer") or {}).get("lr")
    if not rate:
        raise LossweaveError(f"{config} has no {RATE}")
    batch = (cfg.get("train_dataloader") or {}).get("batch_size")
    return Setting(
        config=config,
        options=without_harmless(options),
        seed=seed,
        length=int(length),
        unit=unit,
        budget={unit: int(length), **({"batch_size": int(batch)} if batch else {})},
        hash=config_hash(cfg.to_dict()),
        rate=float(rate),
        annotations=_annotations(cfg, config),
        classes=tuple((_leaf(cfg.val_dataloader.dataset).get("metainfo") or {}).get("classes", ())),
        loading=serial_loading(config),
        asked=asked,
        jobs=jobs,
    )


def _annotations(cfg: Any, config: str) -> str:
    """Where the validation split's COCO annotations are.

    Raises:
        LossweaveError: there is no such split, or it is scored by something else.
    """
    if cfg.get("val_dataloader") is None or cfg.get("val_evaluator") is None:
        raise LossweaveError(
            f"{config} has no validation set (val_dataloader, val_evaluator), by which to choose"
        )
    evaluators = cfg.val_evaluator
    evaluators = evaluators if isinstance(evaluators, (list, tuple)) else [evaluators]
    found = [one for one in evaluators if type_name(one.get("type")) == "CocoMetric"]
    if not found:
        names = ", ".join(type_name(one.get("type")) or "none" for one in evaluators)
        raise LossweaveError(
            f"{config}: val_evaluator is {names}; a CocoMetric is needed, whose AP is compared"
        )
    path = found[0].get("ann_file")
    if not path or not Path(path).is_file():
        raise LossweaveError(f"{config}: there are no validation annotations {path!r}")
    return str(path)


def _leaf(dataset: Any) -> Any:
    while dataset.get("dataset") is not None:
        dataset = dataset.dataset
    return dataset


def rung_options(setting: Setting, rate: float | None, rungs: Sequence[int]) -> tuple[str, ...]:
    """The ``--cfg-options`` of a training that is looked at at rungs, and ends at the last."""
    return (
        f"randomness.seed={setting.seed}",
        *setting.options,
        *((f"{RATE}={rate!r}",) if rate is not None else ()),
        "default_hooks.rungs.type=lossweave.RungHook",
        f"default_hooks.rungs.at=[{','.join(map(str, rungs))}]",
        f"train_cfg.val_begin={_NEVER}",  # the hook evaluates
        "default_hooks.checkpoint.type=lossweave.CheckpointHook",
        f"default_hooks.checkpoint.interval={_NEVER}",  # and saves
        f"default_hooks.checkpoint.by_epoch={setting.unit == 'epochs'}",
        "default_hooks.checkpoint.save_last=False",
        *setting.loading,
    )


def test_scores(setting: Setting, config: str, folder: Path) -> dict[str, float]:
    """The scores of a finished training on the test split; none without one.

    Args:
        setting: the training's.
        config: what it trained.
        folder: its own.
    """
    if load_config(config).get("test_evaluator") is None:
        return {}
    checkpoint = (folder / "last_checkpoint").read_text().strip()
    test = ["tools/test.py", resolve_config(config), checkpoint]
    given = [*setting.options, *(o for o in setting.loading if o.startswith("test_"))]
    more = ["--cfg-options", *given] if given else []
    call([*test, "--work-dir", str(folder / "test"), *more], folder / "log.txt", setting.jobs)
    metrics = read_test_metrics(folder / "test")
    return {name: metrics.get(key, 0.0) for name, key in _TEST.items()}


def find_keys(config: str, options: Sequence[str] = ()) -> Keys:
    """The keys of a config's terms, from the losses of its first training batch.

    Every ``loss_weight`` of the built model is doubled in turn; the raw losses that double with
    it are those that it weighs. Nothing is trained.

    Args:
        config: of MMDetection.
        options: ``--cfg-options``.

    Raises:
        LossweaveError: the model or its data cannot be built.
    """
    cfg = load_config(config, parsed_options(options))
    with_combiner(cfg, "Sum")
    with wrong_input(config), probing():
        init_default_scope(cfg.get("default_scope", "mmdet"))
        from mmdet.registry import MODELS

        torch.manual_seed(0)
        model = MODELS.build(cfg.model).train()
        model.init_weights()
        loader = {**cfg.train_dataloader, "num_workers": 0, "persistent_workers": False}
        batch = next(iter(Runner.build_dataloader(loader, seed=0)))
        data = model.data_preprocessor(batch, training=True)
        before = _losses(model, data, settle=True)
        assigned = model.loss_combination.terms.assign(before)
        terms = dict(zip(model.loss_combination.names, assigned.entries, strict=True))
        responses = [_response(model, data, cfg.model, name, before) for name in _weighing(model)]
    return keys_of_terms(terms, [one for one in responses if one is not None], before)


def _weighing(model: nn.Module) -> list[str]:
    """The modules that have a weight of their own, by name."""
    return [
        name
        for name, module in model.named_modules()
        if isinstance(getattr(module, _KEY, None), (int, float))
    ]


def _response(
    model: nn.Module, data: Any, cfg: Any, name: str, before: Mapping[str, float]
) -> Response | None:
    """What doubling one module's weight does; None where it stands in no config."""
    node = cfg
    for step in name.split("."):
        try:
            node = node[int(step)] if step.isdigit() else node[step]
        except (KeyError, IndexError, TypeError):
            return None
    module = model.get_submodule(name)
    value = float(getattr(module, _KEY))
    try:
        setattr(module, _KEY, PROBE * value)  # of this copy, which is built for it and thrown away
        after = _losses(model, data)
    finally:
        setattr(module, _KEY, value)
    return response(f"model.{name}.{_KEY}", value, before, after)


def _losses(model: Any, data: Any, settle: bool = False) -> dict[str, float]:
    """The raw losses of a batch, each summed up; random choices are the same every time."""
    same_draws()
    with torch.no_grad():
        losses = model(**data, mode="loss")
        if settle:
            model.loss_combination(losses)
    return sums(losses)
