"""What the tools do to a config, whatever framework it is of."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from lossweave.combination import build_combination
from lossweave.combination.penalty import read_penalties
from lossweave.errors import LossweaveError
from lossweave.host.lock import make_work_dir
from lossweave.utils.fields import check_value
from lossweave.utils.files import write_atomically

__all__ = [
    "check_declared",
    "claim_work_dir",
    "default_work_dir",
    "refuse_no_model",
    "with_combiner",
]

_Config = TypeVar("_Config")
#: The file of a work directory that says which config it belongs to.
_HASH = "config.sha256"
#: Given config, combiner, its options and terms: changes the config, and returns the arguments
#: of :func:`lossweave.combination.build_combination` that it then says, or None where it has none.
Change = Callable[[Any, str | None, Mapping[str, Any], Any], Mapping[str, Any] | None]


def with_combiner(
    cfg: _Config,
    change: Change,
    combiner: str | None = None,
    options: Mapping[str, Any] | None = None,
    terms: Any = None,
    held_out: str = "",
) -> _Config:
    """Combine the losses of a config's model, or change how they are combined. In place.

    Args:
        cfg: the config.
        change: how that is said in configs of its kind.
        combiner: the combiner's name; None leaves the config's own.
        options: the combiner's arguments.
        terms: 'task', 'head', 'loss', 'layer', 'level' or a dict of patterns; None leaves the
            config's own (where it has none, 'task', or 'loss' where that fits nothing).
        held_out: path of the field that holds data for combiners that ask for held-out losses.
            Where ``combiner`` takes the place of one that does, and does not, it is emptied.

    Raises:
        LossweaveError: an unknown combiner or argument, options without a combiner, held-out
            data that no combiner asks for, or whatever ``change`` refuses.

    Example:
        >>> with_combiner({}, lambda cfg, *change: dict(combiner="Product", terms="head"))
        {}
        >>> with_combiner({}, lambda cfg, *change: None, options=dict(lr=0.1))
        Traceback (most recent call last):
        ...
        lossweave.errors.LossweaveError: --combiner-options needs --combiner
    """
    if combiner is None and options:
        raise LossweaveError("--combiner-options needs --combiner")
    if "type" in (options or {}):
        raise LossweaveError("--combiner-options: type is said by --combiner NAME alone")
    said = change(cfg, combiner, options or {}, terms)
    if said is None:
        return cfg
    # All that can be seen in the config is refused before anything is built or read.
    given = {"rpn": None, "roi": None, **said}
    read_penalties(given.pop("penalty", None))
    combination = build_combination(**given)
    asking = any(each.held_out_interval for each in combination.combiners)
    parent, key = _at(cfg, held_out)
    if parent is not None and parent.get(key) and not asking:
        if combiner is None:
            raise LossweaveError(
                f"{held_out} names held-out data, which the combiner does not ask for; "
                "AutoLoss(reward='held_out') does"
            )
        parent[key] = None
    return cfg


def check_declared(cfg: Any, declared: Mapping[str, Any]) -> None:
    """Refuse values in a config that are not what is declared for them.

    Args:
        cfg: the config.
        declared: type hints by path; paths that the config does not have are left out.

    Raises:
        LossweaveError: naming the path, the value and what is allowed.

    Example:
        >>> check_declared({"train_cfg": {"max_iters": True}}, {"train_cfg.max_iters": int})
        Traceback (most recent call last):
        ...
        lossweave.errors.LossweaveError: train_cfg.max_iters=True should be a whole number
    """
    for path, hint in declared.items():
        parent, key = _at(cfg, path)
        if parent is not None and key in parent:
            check_value(path, parent[key], hint)


def _at(cfg: Any, path: str) -> tuple[Any, str]:
    """The node that holds a path's last name, or None, and that name."""
    *above, key = path.split(".")
    node = cfg
    for name in above:
        node = node.get(name) if hasattr(node, "get") else None
    return (node if hasattr(node, "get") else None), key


def refuse_no_model(cfg: Any) -> None:
    """Refuse a config without a model.

    Args:
        cfg: the config, a container of names.

    Raises:
        LossweaveError: it has no ``model``, or that is no dict.
    """
    if "model" not in cfg:
        raise LossweaveError("the config has no `model`, so there are no losses to combine")
    if not isinstance(cfg["model"], Mapping):
        raise LossweaveError(f"model={cfg['model']!r} should be a dict that describes a detector")


def default_work_dir(config: str, label: str) -> str:
    """``work_dirs/<config>_<combiner>``, so that runs with other combiners stay apart.

    Args:
        config: the config's name, as it was typed.
        label: the combiner's.

    Example:
        >>> default_work_dir("mmdet::ssd/ssd300_coco.py", "Sum")
        'work_dirs/ssd300_coco_Sum'
    """
    return str(Path("work_dirs") / f"{Path(config.split('::')[-1]).stem}_{label}")


def claim_work_dir(work_dir: str, content: str, resume: bool) -> None:
    """Note which config a work directory belongs to; refuse one with checkpoints of another.

    What is compared is a hash, so nothing that lies in the directory is executed or believed.

    Args:
        work_dir: the directory; it is made.
        content: what of the config decides the training, as text.
        resume: whether its checkpoints are gone on from, whatever they are of.

    Raises:
        LossweaveError: naming the directory and what to do.
    """
    folder = make_work_dir(work_dir)
    own = hashlib.sha256(content.encode()).hexdigest()
    if not resume and any(folder.glob("*.pth")) and _noted(folder) != own:
        raise LossweaveError(
            f"{work_dir} holds checkpoints of a different config; choose another --work-dir, "
            "or go on from them with --resume"
        )
    write_atomically(folder / _HASH, f"{own}\n".encode())


def _noted(folder: Path) -> str:
    try:
        return (folder / _HASH).read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return ""
