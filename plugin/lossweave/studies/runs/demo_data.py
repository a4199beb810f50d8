"""The demo's data and its detector, for the studies that train it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lossweave.demo import make_demo_data
from lossweave.errors import LossweaveError

if TYPE_CHECKING:  # the tool that makes the data needs no framework
    from mmengine.config import Config

__all__ = ["DEFAULT_CONFIG", "ensure_data", "stretched"]

DEFAULT_CONFIG = "lossweave::mmdet/demo/retinanet_demo.py"


def ensure_data(cfg: Config) -> str:
    """Make the demo data where the config looks for it and nothing is; say what it is.

    Raises:
        LossweaveError: the data cannot be made there.
    """
    dataset = cfg.train_dataloader.dataset
    root = Path(dataset.data_root)
    if not (root / dataset.ann_file).is_file():
        print(f"making the demo data in {root}")
        try:
            make_demo_data(root)
        except (ValueError, OSError) as error:
            raise LossweaveError(str(error)) from error
    counts = []
    for split in ("train", "val"):
        part = cfg[f"{split}_dataloader"].dataset
        content = json.loads((Path(part.data_root) / part.ann_file).read_text())
        counts.append(f"{len(content['images'])} {split}")
    return f"Data: {' and '.join(counts)} pictures."


def stretched(scheduler: dict[str, Any], factor: float) -> dict[str, Any]:
    """A scheduler's config with what counts iterations multiplied by a factor. In place.

    Example:
        >>> stretched(dict(type="LinearLR", by_epoch=False, begin=0, end=100), 0.2)["end"]
        20
    """
    if not scheduler.get("by_epoch", True):
        for key in ("begin", "end", "T_max", "total_steps"):
            if isinstance(scheduler.get(key), int) and scheduler[key] > 0:
                scheduler[key] = max(1, round(scheduler[key] * factor))
    return scheduler
