"""One model of the zoo: a stock training step, and the same step with combiners."""

import os
import random
import re
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lossweave.errors import LossweaveError

__all__ = ["COMBINERS", "Trial", "ZooModel", "try_model"]

#: What every model takes, beside the stock step.
COMBINERS = ("Sum", "UncertaintyWeighting", "PCGrad")
#: Heights of the images that are tried until the stock model takes one: 900 queries need 224, the
#: last stride of SSD 320. Of the first, all losses must be above 0 as well.
SIZES = (64, 128, 224, 320)

#: What an error says where gradients can be combined at the features, not at the parameters.
_AT_FEATURES = "use boundary='features'"
#: What a combined model has that stock has not.
_OWN = "loss_combination."


class ZooModel(Protocol):
    """A config of a framework's zoo."""

    def stock(self) -> nn.Module:
        """The config's own model, untrained."""

    def combined(self, combiner: str, **options: Any) -> nn.Module:
        """The same as the tools make it for ``--combiner`` and ``--combiner-options``."""

    def losses(self, model: nn.Module, size: int) -> tuple[Mapping[str, Any], Tensor]:
        """The losses of two random images, and what the framework runs backward on."""


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
        varies: whether the stock step itself does not repeat to the last bit, so that the sum can
            only be as near to it as it is to itself.
        seconds: how long it took.
        features: why gradients are combined at the features; '' where the parameters do.
    """

    configs: list[str]
    stock: str = ""
    results: dict[str, str] = field(default_factory=dict)
    losses: list[str] = field(default_factory=list)
    terms: list[str] = field(default_factory=list)
    size: int = 0
    varies: bool = False
    seconds: float = 0.0
    features: str = ""

    @property
    def good(self) -> bool:
        """Whether the stock model does not train here, or all combiners do what they should."""
        return bool(self.stock) or not any(self.results.values())


def try_model(read: Callable[[], ZooModel], configs: list[str]) -> Trial:
    """Train one step of a config's model, stock and combined.

    Args:
        read: reads the config.
        configs: what to call it, and those that have the same model.
    """
    os.environ["HF_HUB_OFFLINE"] = "1"  # language models are not fetched
    started, trial = time.time(), Trial(configs)
    try:
        config = read()
        stock, state, trial.size = _stock_step(config)
        trial.losses = stock.losses
    except Exception as error:
        trial.stock = _line(error)
    else:
        for combiner in COMBINERS:
            try:
                trial.results[combiner] = _taken(config, combiner, stock, state, trial)
            except Exception as error:
                trial.results[combiner] = _line(error)
    trial.seconds = round(time.time() - started, 1)
    return trial


class _Unfilled(TorchFunctionMode):
    """Modules that are made meanwhile draw no initial weights: others are loaded into them."""

    _DRAWING = (
        Tensor.uniform_, Tensor.normal_, nn.init.uniform_, nn.init.normal_,
        nn.init.kaiming_uniform_,
    )  # fmt: skip

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """The function's result, or what it was to fill as it is."""
        if func in self._DRAWING:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


@dataclass
class _Step:
    """What a training step leaves behind: ``idle`` are losses that are 0."""

    total: Tensor
    losses: list[str]
    idle: list[str]
    grads: dict[str, Tensor]
    buffers: dict[str, Tensor]


def _stock_step(config: ZooModel) -> tuple[_Step, dict[str, Tensor], int]:
    model = config.stock()
    state = _weights(model)
    for size in SIZES:
        try:
            _load(model, state)
            step = _step(config, model, size)
        except Exception:
            if size == SIZES[-1]:
                raise
        else:
            if size != SIZES[0] or not step.idle:
                return step, state, size
    raise AssertionError


def _taken(
    config: ZooModel, combiner: str, stock: _Step, state: Mapping[str, Tensor], trial: Trial
) -> str:
    """What is wrong with a combiner's step, at the features where it says that these would do."""
    try:
        return _combined(config, combiner, {}, stock, state, trial)
    except LossweaveError as error:
        if _AT_FEATURES not in str(error):
            raise
        trial.features = _line(error)
    return _combined(config, combiner, dict(boundary="features"), stock, state, trial)


def _combined(
    config: ZooModel,
    combiner: str,
    options: Mapping[str, Any],
    stock: _Step,
    state: Mapping[str, Tensor],
    trial: Trial,
) -> str:
    with _Unfilled():
        model: Any = config.combined(combiner, **options)
    if unlike := _load(model, state):
        return f"its weights have other names than those of stock, e.g. {unlike[0]}"
    step = _step(config, model, trial.size)
    trial.terms = list(model.loss_combination.names)
    if combiner == "Sum":
        return _unlike(config, stock, step, state, trial)
    missing = [name for name in stock.grads if name not in step.grads]
    bad = [name for name, grad in step.grads.items() if not grad.isfinite().all()]
    if missing:
        return f"{len(missing)} parameters have no gradient, e.g. {missing[0]}"
    if bad and all(grad.isfinite().all() for grad in stock.grads.values()):
        return f"the gradient of {bad[0]} is not finite"
    return ""


def _unlike(
    config: ZooModel, stock: _Step, step: _Step, state: Mapping[str, Tensor], trial: Trial
) -> str:
    """How a step differs from the stock one, beyond what that differs from itself."""
    difference = _difference(stock, step)
    if not difference:
        return ""
    again = config.stock()
    _load(again, state)
    repeated = _step(config, again, trial.size)
    trial.varies = bool(_difference(stock, repeated))
    near = trial.varies and _apart(stock, step) <= 10 * _apart(stock, repeated)
    return "" if near else difference


def _weights(model: nn.Module) -> dict[str, Tensor]:
    """A copy of what :func:`_tensors` finds."""
    return {name: value.clone() for name, value in _tensors(model).items()}


def _load(model: nn.Module, weights: Mapping[str, Tensor]) -> list[str]:
    """Load :func:`_weights` of stock; what else the model has, or has not, by name."""
    own = _tensors(model)
    for name in own.keys() & weights.keys():
        own[name].copy_(weights[name])
    unlike = [name for name in own if name not in weights and not name.startswith(_OWN)]
    return unlike + [name for name in weights if name not in own]


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """A model's weights and buffers, and those of modules that are none of its own (a teacher)."""
    aside = [
        (f"{owner or 'model'}: {name}.", module)
        for owner, part in model.named_modules()
        for name, module in vars(part).items()
        if isinstance(module, nn.Module) and not f"{owner}.".startswith(_OWN)
    ]
    return {
        f"{prefix}{name}": value
        for prefix, part in [("", model), *aside]
        for name, value in part.state_dict().items()
    }


def _apart(one: _Step, other: _Step) -> float:
    """The largest difference of two steps' gradients, relative to each tensor's largest."""
    if one.grads.keys() != other.grads.keys():
        return float("inf")
    return max(
        ((grad - other.grads[name]).abs().max() / grad.abs().max().clamp(min=1e-30)).item()
        for name, grad in one.grads.items()
    )


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
    if one.shape != other.shape:
        return False
    return torch.equal(one, other) or torch.equal(torch.nan_to_num(one), torch.nan_to_num(other))


def _step(config: ZooModel, model: nn.Module, size: int) -> _Step:
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    model.train()
    model.zero_grad(set_to_none=True)
    losses, total = config.losses(model, size)
    total.backward()
    return _Step(
        total.detach(),
        list(losses),
        [name for name, value in losses.items() if not _above_zero(value)],
        {n: p.grad for n, p in model.named_parameters() if p.grad is not None},
        {n: b for n, b in model.named_buffers() if not n.startswith(_OWN)},
    )


def _above_zero(loss: Any) -> bool:
    parts = loss if isinstance(loss, (list, tuple)) else [loss]
    return any(bool((part.detach() != 0).any()) for part in parts)


def _line(error: BaseException) -> str:
    """An error in one line, with the place in the code that raised it."""
    where = traceback.extract_tb(error.__traceback__)[-1]
    words = " ".join(f"{type(error).__name__}: {error}".split())
    words = re.sub(r"[^\s'\"]*/site-packages/", "", words)[:240]  # says the same on every machine
    return f"{words} ({os.path.basename(where.filename)}:{where.lineno})"
