"""One model of the zoo: a stock training step, and the same step with combiners."""

import copy
import os
import random
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.registry import init_default_scope
from torch import Tensor, nn

from lossweave.mmdet.configs import with_combiner
from lossweave.studies.zoo.batches import batch_for

__all__ = ["COMBINERS", "Trial", "try_model"]

#: What every model takes, beside the stock step.
COMBINERS = ("Sum", "UncertaintyWeighting", "PCGrad")
#: Heights of the images that are tried until the stock model takes one.
SIZES = (128, 320)


@dataclass
class Trial:
    """What became of one model.

    Args:
        configs: the configs that have this model, the one that was read first.
        stock: '' where the stock model trains a step, else why not, in one line.
        results: by combiner, '' where all is well, else what is wrong.
        losses: the names of the losses.
        terms: the names of the terms.
        size: height of the images.
        seconds: how long it took.
    """

    configs: list[str]
    stock: str = ""
    results: dict[str, str] = field(default_factory=dict)
    losses: list[str] = field(default_factory=list)
    terms: list[str] = field(default_factory=list)
    size: int = 0
    seconds: float = 0.0

    @property
    def good(self) -> bool:
        """Whether the stock model does not train here, or all combiners do what they should."""
        return bool(self.stock) or not any(self.results.values())


def try_model(path: str, configs: list[str]) -> Trial:
    """Train one step of a config's model, stock and combined.

    Args:
        path: where the config is.
        configs: what to call it, and those that have the same model.
    """
    os.environ["HF_HUB_OFFLINE"] = "1"  # language models are not fetched
    started, trial = time.time(), Trial(configs)
    try:
        cfg = Config.fromfile(path)
        init_default_scope(cfg.get("default_scope", "mmdet"))
        _small(cfg.model)
        stock, state, trial.size = _stock_step(cfg)
        trial.losses = list(stock.losses)
    except Exception as error:
        trial.stock = _line(error)
    else:
        for combiner in COMBINERS:
            try:
                trial.results[combiner] = _combined(cfg, combiner, stock, state, trial)
            except Exception as error:
                trial.results[combiner] = _line(error)
    trial.seconds = round(time.time() - started, 1)
    return trial


@dataclass
class _Step:
    """What a training step leaves behind."""

    total: Tensor
    losses: dict[str, Tensor]
    grads: dict[str, Tensor]
    buffers: dict[str, Tensor]


def _stock_step(cfg: Config) -> tuple[_Step, dict[str, Tensor], int]:
    model = MODELS.build(copy.deepcopy(cfg.model))
    model.init_weights()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    for size in SIZES:
        try:
            model.load_state_dict(state)
            return _step(model, cfg, size), state, size
        except Exception:
            if size == SIZES[-1]:
                raise
    raise AssertionError


def _combined(
    cfg: Config, combiner: str, stock: _Step, state: Mapping[str, Tensor], trial: Trial
) -> str:
    changed = with_combiner(copy.deepcopy(cfg), combiner)
    model = MODELS.build(changed.model)
    model.load_state_dict(state, strict=False)
    step = _step(model, cfg, trial.size)
    trial.terms = list(model.loss_combination.names)
    if combiner == "Sum":
        return _difference(stock, step)
    missing = [name for name in stock.grads if name not in step.grads]
    bad = [name for name, grad in step.grads.items() if not grad.isfinite().all()]
    fine_there = all(grad.isfinite().all() for grad in stock.grads.values())
    if missing:
        return f"{len(missing)} parameters have no gradient, e.g. {missing[0]}"
    if bad and fine_there:
        return f"the gradient of {bad[0]} is not finite"
    return ""


def _difference(stock: _Step, step: _Step) -> str:
    """How a step differs from the stock one; '' where it is the same to the last bit."""
    if not _same(stock.total, step.total):
        return f"the loss is {step.total.item()}, that of stock {stock.total.item()}"
    for what in ("grads", "buffers"):
        theirs, ours = getattr(stock, what), getattr(step, what)
        if theirs.keys() != ours.keys():
            return f"{what} of other tensors: {sorted(theirs.keys() ^ ours.keys())[:3]}"
        other = [name for name in theirs if not _same(theirs[name], ours[name])]
        if other:
            return f"{what} differ in {len(other)} of {len(theirs)} tensors, e.g. {other[0]}"
    return ""


def _same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.equal(torch.nan_to_num(one), torch.nan_to_num(other))


def _step(model: nn.Module, cfg: Any, size: int) -> _Step:
    hub = MessageHub.get_current_instance()
    for name in ("iter", "epoch"):  # some preprocessors and heads ask for them
        hub.update_info(name, 0)
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    model.train()
    model.zero_grad(set_to_none=True)
    batch: Any = model.data_preprocessor(batch_for(cfg, size), True)  # type: ignore[operator]
    losses = model(**batch, mode="loss")
    total, _ = model.parse_losses(losses)  # type: ignore[operator]
    total.backward()
    own = "loss_combination."
    return _Step(
        total.detach(),
        {name: value for name, value in losses.items() if "loss" in name},
        {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None},
        {n: b.clone() for n, b in model.named_buffers() if not n.startswith(own)},
    )


def _small(value: Any) -> None:
    """Take pretrained weights, and padding to large images, out of a model's config. In place."""
    if isinstance(value, dict):
        init = value.get("init_cfg")
        if isinstance(init, dict) and "Pretrained" in str(init.get("type")):
            value["init_cfg"] = None
        for name in ("pretrained", "load_from", "teacher_ckpt"):
            if isinstance(value.get(name), str):
                value[name] = None
        if value.get("batch_augments"):
            value["batch_augments"] = [
                one for one in value["batch_augments"] if "FixedSizePad" not in str(one.get("type"))
            ]
        for item in value.values():
            _small(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _small(item)


def _line(error: BaseException) -> str:
    """An error in one line, with the place in the code that raised it."""
    where = traceback.extract_tb(error.__traceback__)[-1]
    words = " ".join(f"{type(error).__name__}: {error}".split())[:240]
    return f"{words} ({os.path.basename(where.filename)}:{where.lineno})"
