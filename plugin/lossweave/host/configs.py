"""What the tools do to a config, whatever framework it is of."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from lossweave.combination import build_combination
from lossweave.errors import LossweaveError
from lossweave.host.lock import make_work_dir
from lossweave.utils.files import write_atomically

__all__ = ["claim_work_dir", "default_work_dir", "refuse_no_model", "with_combiner"]

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
) -> _Config:
    """Combine the losses of a config's model, or change how they are combined. In place.

    Args:
        cfg: the config.
        change: how that is said in configs of its kind.
        combiner: the combiner's name; None leaves the config's own.
        options: the combiner's arguments.
        terms: 'task', 'head', 'loss', 'layer', 'level' or a dict of patterns; None leaves the
            config's own (where it has none, 'task', or 'loss' where that fits nothing).

    Raises:
        LossweaveError: an unknown combiner or argument, options without a combiner, or
            whatever ``change`` refuses.

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
    said = change(cfg, combiner, options or {}, terms)
    if said is not None:
        # All that can be seen in the config is refused before anything is built or read.
        build_combination(**{"rpn": None, "roi": None, **said})
    return cfg


def refuse_no_model(cfg: Any) -> None:
    """Refuse a config without a model.

    Args:
        cfg: the config, a container of names.

    Raises:
        LossweaveError: it has no ``model``.
    """
    if "model" not in cfg:
        raise LossweaveError("the config has no `model`, so there are no losses to combine")


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
