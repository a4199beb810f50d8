"""Detectron2's config that a search ends in: the user's, with the weights and the rate found."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from detectron2.config import CfgNode
from omegaconf import OmegaConf

from lossweave.detectron2.config_node import META, plain_node
from lossweave.detectron2.configs import combiner_label, content_of, load_config, with_combiner
from lossweave.errors import LossweaveError
from lossweave.host.paths import in_model_zoo, resolve_config
from lossweave.studies.tune.space import Point
from lossweave.utils.files import write_atomically

__all__ = ["write_child"]

_ZOO = "detectron2://"


def write_child(
    folder: Path,
    config: str,
    options: Sequence[str],
    point: Point,
    stock: Mapping[str, float] | None,
    head: Sequence[str] = (),
) -> Path:
    """Write a config that inherits from the user's: ``tuned.yaml``, or ``tuned.py`` of a lazy one.

    Arguments as :meth:`~lossweave.studies.tune.framework.Framework.write_child`.

    Raises:
        LossweaveError: the config that was written does not resolve to what was meant.
    """
    meant = load_config(config, options)
    wrapped = combiner_label(meant) != "stock"
    if wrapped or stock is None:
        with_combiner(meant, "Sum", {} if stock is not None else {"weights": list(point.weights)})
    comments = "".join(f"# {line}".rstrip() + "\n" for line in head)
    if isinstance(meant, CfgNode):
        return _write_yaml(folder / "tuned.yaml", config, meant, point, stock, comments)
    return _write_lazy(folder / "tuned.py", config, options, meant, point, stock, comments)


def _write_yaml(
    path: Path,
    config: str,
    meant: CfgNode,
    point: Point,
    stock: Mapping[str, float] | None,
    comments: str,
) -> Path:
    changes = {"SOLVER.BASE_LR": point.rate, **(stock or {})}
    meant.merge_from_list([word for change in changes.items() for word in change])
    plain = meant.MODEL.META_ARCHITECTURE != META
    base = _base_name(config, path)
    if not (plain and base.startswith(_ZOO)):  # the stock tools know no such base
        text = _yaml({"_BASE_": base, **_changed(load_config(config), meant)})
        write_atomically(path, (comments + text).encode())
        if content_of(load_config(str(path))) == content_of(meant):
            return path
    # A base cannot be named, or has what no child can take away.
    whole = plain_node(meant)
    if plain:
        whole.pop("LOSSWEAVE")
    write_atomically(path, (comments + _yaml(whole)).encode())
    return path


def _yaml(values: Mapping[str, Any]) -> str:
    return str(yaml.safe_dump(dict(values), sort_keys=False, width=100))


def _changed(base: Any, meant: Any) -> dict[str, Any]:
    """What a config has that another has not, as plain values."""
    found: dict[str, Any] = {}
    for key, value in meant.items():
        if isinstance(value, Mapping) and isinstance(base.get(key), Mapping):
            if inside := _changed(base[key], value):
                found[key] = inside
        elif key not in base or value != base[key]:
            found[key] = plain_node(value)
    return found


def _write_lazy(
    path: Path,
    config: str,
    options: Sequence[str],
    meant: Any,
    point: Point,
    stock: Mapping[str, float] | None,
    comments: str,
) -> Path:
    base = load_config(config)
    wrapped = combiner_label(base) != "stock"
    changes = {"optimizer.lr": point.rate, **_grouped(base, stock or {})}
    for place, value in changes.items():
        OmegaConf.update(meant, place, value, merge=False)
    name = _base_name(config, path)
    imports = ["from detectron2.config import LazyConfig"]
    loaded = f"LazyConfig.load(str(Path(__file__).parent / {name!r}))"
    if name.startswith(_ZOO):
        imports.append("from detectron2.model_zoo import get_config")
        loaded = f"get_config({name.removeprefix(_ZOO)!r})"
    else:
        imports = ["from pathlib import Path", "", *imports]
    lines = [f"_base = {loaded}"]
    if options:
        lines.append(f"_base = LazyConfig.apply_overrides(_base, {list(options)!r})")
    lines += [f"{key} = _base.{key}" for key in base if OmegaConf.is_config(base[key])]
    lines += [f"{place} = {value!r}" for place, value in changes.items()]
    combiner = {"type": "Sum", **({} if stock is not None else {"weights": list(point.weights)})}
    if wrapped:
        lines.append(f"model.combiner = {combiner!r}")
    elif stock is None:
        imports.append("from detectron2.config import LazyCall as L")
        imports += ["", "from lossweave.detectron2 import combine_losses"]
        lines.append(f"model = L(combine_losses)(model=model, terms='auto', combiner={combiner!r})")
    text = comments + "\n".join([*imports, "", *lines]) + "\n"
    write_atomically(path, text.encode())
    if content_of(load_config(str(path))) != content_of(meant):
        raise LossweaveError(f"{path} does not resolve to {config} with what was found")
    return path


def _grouped(base: Any, stock: Mapping[str, float]) -> dict[str, Any]:
    """Keys as a LazyConfig is assigned to: weights by the names of losses are one dict."""
    found: dict[str, Any] = {}
    for place, value in stock.items():
        parent, _, entry = place.rpartition(".")
        if parent.endswith("loss_weight"):
            own = OmegaConf.select(base, parent)
            before = OmegaConf.to_container(own) if OmegaConf.is_dict(own) else {}
            found.setdefault(parent, dict(before))[entry] = value  # type: ignore[arg-type]
        else:
            found[place] = value
    return found


def _base_name(config: str, path: Path) -> str:
    """How the child names its base."""
    if config.startswith(_ZOO):
        return config
    if not Path(config).is_file() and in_model_zoo(config):
        return _ZOO + config
    return os.path.relpath(Path(resolve_config(config)).resolve(), path.parent.resolve())
