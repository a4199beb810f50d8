"""Which ``loss_weight`` keys of a config weigh which term: found out on one batch, not by name."""

from __future__ import annotations

import io
import logging
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from math import isclose
from typing import Any

import numpy as np
import torch
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from torch import nn

from lossweave.errors import wrong_input
from lossweave.mmdet.configs import load_config, with_combiner
from lossweave.studies.runs.training import parsed_options

__all__ = ["Keys", "Response", "find_keys", "keys_of_terms"]

_KEY = "loss_weight"
_PROBE = 2.0


@dataclass(frozen=True)
class Response:
    """What one key does.

    Args:
        path: the key's, in the config.
        value: as the config or the loss's default has it.
        factors: by raw loss, by how much it grew when the key was doubled.
    """

    path: str
    value: float
    factors: Mapping[str, float]


@dataclass(frozen=True)
class Keys:
    """The terms, and where the config weighs them.

    Args:
        terms: by term, the keys that together weigh all of its losses; empty where there are
            none that do so and weigh nothing else.
        values: by key, what the config has.
        problems: for each term without keys, why.
    """

    terms: Mapping[str, tuple[str, ...]]
    values: Mapping[str, float]
    problems: Mapping[str, str]

    @property
    def complete(self) -> bool:
        """Whether every term has its keys."""
        return not self.problems


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
    with wrong_input(config), torch.random.fork_rng(), _quiet():
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


@contextmanager
def _quiet() -> Iterator[None]:
    """What builds models and data says a line per parameter and file; not here."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)


def keys_of_terms(
    terms: Mapping[str, Sequence[str]],
    responses: Sequence[Response],
    losses: Mapping[str, float],
) -> Keys:
    """Keys that together weigh all losses of a term, and nothing else, each loss once.

    Args:
        terms: by term, its raw losses.
        responses: what each key does.
        losses: the raw losses; one that is zero shows no response.

    Example:
        >>> response = Response("a.loss_weight", 1.0, {"loss_cls": 2.0, "loss_box": 1.0})
        >>> terms = {"cls": ["loss_cls"], "loc": ["loss_box"]}
        >>> keys = keys_of_terms(terms, [response], {"loss_cls": 1, "loss_box": 1})
        >>> keys.terms["cls"], keys.problems
        (('a.loss_weight',), {'loc': 'loss_box has no loss_weight key'})
    """
    found: dict[str, tuple[str, ...]] = {}
    problems: dict[str, str] = {}
    for term, names in terms.items():
        chosen: list[str] = []
        covered: set[str] = set()
        for response in responses:
            moved = {name for name, factor in response.factors.items() if factor != 1.0}
            exact = all(isclose(response.factors[name], _PROBE, rel_tol=1e-3) for name in moved)
            if moved and exact and moved <= set(names) and not moved & covered:
                chosen.append(response.path)
                covered |= moved
        silent = [name for name in names if not losses.get(name)]
        missing = [name for name in names if name not in covered and name not in silent]
        if missing:
            problems[term] = f"{missing[0]} has no {_KEY} key"
        elif not chosen:
            problems[term] = f"{', '.join(names) or term} is zero in the first batch"
        found[term] = () if missing else tuple(chosen)
    return Keys(found, {one.path: one.value for one in responses}, problems)


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
        setattr(module, _KEY, _PROBE * value)  # of this copy, which is built for it and thrown away
        after = _losses(model, data)
    finally:
        setattr(module, _KEY, value)
    factors = {loss: after[loss] / before[loss] for loss in before if before[loss]}
    moved = {loss: 1.0 if isclose(f, 1.0, rel_tol=1e-4) else f for loss, f in factors.items()}
    return Response(f"model.{name}.{_KEY}", value, moved)


def _losses(model: Any, data: Any, settle: bool = False) -> dict[str, float]:
    """The raw losses of a batch, each summed up; random choices are the same every time."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    with torch.no_grad():
        losses = model(**data, mode="loss")
        if settle:
            model.loss_combination(losses)
    return {
        name: float(sum(float(part.mean()) for part in value))
        if isinstance(value, (list, tuple))
        else float(value.mean())
        for name, value in losses.items()
        if "loss" in name
    }
