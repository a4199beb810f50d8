"""MMDetection's config that a search ends in: the user's, with the weights and the rate found."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from pprint import pformat
from typing import Any

from mmengine.config import Config

from lossweave.host.paths import resolve_config
from lossweave.mmdet.configs import combiner_label, load_config, type_path
from lossweave.studies.ledger.identity import config_hash
from lossweave.studies.runs.method import RATE
from lossweave.studies.runs.training import parsed_options
from lossweave.studies.tune.space import Point
from lossweave.utils.files import write_atomically

__all__ = ["write_child"]


def write_child(
    folder: Path,
    config: str,
    options: Sequence[str],
    point: Point,
    stock: Mapping[str, float] | None,
    head: Sequence[str] = (),
) -> Path:
    """Write a config that inherits from the user's.

    Arguments as :meth:`~lossweave.studies.tune.framework.Framework.write_child`.

    Raises:
        LossweaveError: the config that was written does not resolve to what was meant.
    """
    path = folder / "tuned.py"
    changes: dict[str, Any] = {**parsed_options(options), RATE: point.rate, **(stock or {})}
    base = load_config(config)
    combined = combiner_label(base) != "stock"
    weights = {} if stock is not None else dict(weights=list(point.weights))
    if combined:
        changes["model.combiner"] = dict(_delete_=True, type="Sum", **weights)
    elif stock is None:
        changes["model.type"] = "lossweave.CombinedLossDetector"
        changes["model.base_detector"] = type_path(base.model.type)
        changes["model.terms"] = "auto"
        changes["model.combiner"] = dict(type="Sum", **weights)
        changes["default_hooks.lossweave.type"] = "lossweave.CombinerHook"
    lines = [f"# {line}".rstrip() for line in head]
    lines.append(f"_base_ = {_base_name(config, path)!r}")
    lines += _assignments(base, changes)
    write_atomically(path, ("\n".join(lines) + "\n").encode())
    _check(path, config, changes, head)
    return path


def _check(path: Path, config: str, changes: Mapping[str, Any], head: Sequence[str]) -> None:
    """What was written resolves to the user's config with the changes; else it is written whole.

    A pure-Python config is no base of one of another kind.
    """
    meant = load_config(config)
    meant.merge_from_dict({key: _copy(value) for key, value in changes.items()})
    if isinstance(replaced := changes.get("model.combiner"), Mapping):
        meant.model.pop("combiner", None)
        meant.model.combiner = {k: v for k, v in replaced.items() if k != "_delete_"}
    try:
        same = _hash(Config.fromfile(path)) == _hash(meant)
    except Exception:  # whatever MMEngine says to a base of another kind
        same = False
    if not same:
        meant.dump(path)
        text = path.read_text(encoding="utf-8")
        write_atomically(path, ("".join(f"# {line}\n" for line in head) + text).encode())


def _hash(cfg: Config) -> str:
    """Of a config, whose parts may say of which package they are."""
    return config_hash(_without_scope(cfg.to_dict()))


def _without_scope(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _without_scope(v) for k, v in value.items() if k != "_scope_"}
    return [_without_scope(v) for v in value] if isinstance(value, (list, tuple)) else value


def _base_name(config: str, path: Path) -> str:
    """How the child names its base: as MMEngine resolves it from where the child lies."""
    if config.startswith("mmdet::"):
        return config
    found = Path(resolve_config(config)).resolve()
    return os.path.relpath(found, path.parent.resolve())


def _assignments(base: Config, changes: Mapping[str, Any]) -> list[str]:
    """Top-level assignments that make the changes; lists are written whole."""
    tree: dict[str, Any] = {}
    for place, value in changes.items():
        node, source = tree, base.to_dict()
        steps = place.split(".")
        for number, step in enumerate(steps):
            inside = source.get(step) if isinstance(source, Mapping) else None
            if isinstance(inside, (list, tuple)) and number < len(steps) - 1:
                whole = node.get(step) or [_copy(item) for item in inside]
                _set(whole, steps[number + 1 :], value)
                node[step] = whole
                break
            if number == len(steps) - 1:
                node[step] = value
            else:
                node, source = node.setdefault(step, {}), inside or {}
    return [f"{name} = {_written(value)}" for name, value in tree.items()]


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _copy(v) for k, v in value.items()}
    return [_copy(v) for v in value] if isinstance(value, (list, tuple)) else value


def _set(whole: Any, steps: Sequence[str], value: Any) -> None:
    for step in steps[:-1]:
        whole = whole[int(step)] if isinstance(whole, list) else whole.setdefault(step, {})
    key: Any = int(steps[-1]) if isinstance(whole, list) else steps[-1]
    whole[key] = value


def _written(value: Any) -> str:
    if isinstance(value, Mapping) and all(str(key).isidentifier() for key in value):
        return f"dict({', '.join(f'{key}={_written(item)}' for key, item in value.items())})"
    if isinstance(value, list):
        return f"[{', '.join(map(_written, value))}]"
    return pformat(value, width=10**6)
