"""Writes the demo data: handwritten digits on photographs, as a COCO-format data set."""

from __future__ import annotations

import json
import shutil
import uuid
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from PIL import Image
from tqdm import tqdm

from lossweave.demo.render import render
from lossweave.demo.sources import CLASSES, LICENSES, SPLITS, SplitSources, load_sources

__all__ = ["DIFFICULTIES", "DemoData", "make_demo_data"]

DIFFICULTIES = {"easy": 0.2, "medium": 0.5, "hard": 0.8}

# Raised whenever the same arguments begin to give other pictures or annotations.
_VERSION = 1
_META = "meta.json"
_MIN_SIZE, _MAX_SIZE = 64, 2048
_JPEG_QUALITY = 92


@dataclass(frozen=True)
class DemoData:
    """Paths of a demo data set.

    Attributes:
        root: The data set's folder.
        classes: The category names, '0' to '9'; category id is 1 + index.

    Example:
        >>> data = DemoData(Path("data/lossweave_demo"))
        >>> data.annotations("val").as_posix()
        'data/lossweave_demo/annotations/val.json'
    """

    root: Path
    classes: tuple[str, ...] = CLASSES

    def images(self, split: str) -> Path:
        """The folder with the pictures of ``split`` ('train', 'val' or 'test')."""
        return self.root / _known_split(split)

    def annotations(self, split: str) -> Path:
        """The COCO annotation file of ``split`` ('train', 'val' or 'test')."""
        return self.root / "annotations" / f"{_known_split(split)}.json"


def make_demo_data(
    root: str | Path,
    train: int = 2000,
    val: int = 300,
    test: int = 300,
    size: int = 160,
    difficulty: str | float = "medium",
    seed: int = 0,
    overwrite: bool = False,
    progress: bool = True,
) -> DemoData:
    """Writes ``root/{train,val,test}/*.jpg`` and ``root/annotations/{train,val,test}.json``.

    Real handwritten digits are scaled, turned, tinted and partly hidden on pieces of real
    photographs, all of them from scikit-learn's package: ten classes, nothing to download.
    No digit and no region of a photograph is in two splits. Picture i of a split depends on
    (seed, split, i, size, difficulty) alone: a smaller set is the beginning of a larger one.

    The folder appears under its name only when it is complete. A second call with the same
    arguments returns at once; what was asked for stands in ``root/meta.json``.

    Args:
        root: Folder to make. Missing parents are made.
        train: Number of training pictures, at least 1.
        val: Number of validation pictures, at least 1.
        test: Number of test pictures, at least 1.
        size: Side of the square pictures in pixels, 64 to 2048.
        difficulty: 'easy' (0.2), 'medium' (0.5), 'hard' (0.8), or a number from 0 to 1. More is
            smaller, fainter, more turned, more hidden digits, more clutter and noise.
        seed: At least 0; another seed divides the digits anew and draws other pictures.
        overwrite: Replace a demo data set that was made with other arguments.
        progress: Show a progress bar on stderr.

    Returns:
        The data set's paths.

    Raises:
        ValueError: An argument is out of its range, or ``root`` holds something else: a demo
            data set with other arguments (allowed with ``overwrite``) or any other files.

    Example:
        >>> data = make_demo_data("data/lossweave_demo", train=200, val=20, test=20)
        >>> len(list(data.images("train").iterdir()))
        200
    """
    meta = {
        "version": _VERSION,
        "train": _checked_int("train", train, 1),
        "val": _checked_int("val", val, 1),
        "test": _checked_int("test", test, 1),
        "size": _checked_int("size", size, _MIN_SIZE, _MAX_SIZE),
        "difficulty": _checked_difficulty(difficulty),
        "seed": _checked_int("seed", seed, 0),
    }
    target = Path(root).expanduser().resolve()
    if _is_complete(target, meta, overwrite):
        return DemoData(Path(root))

    target.parent.mkdir(parents=True, exist_ok=True)
    # beside the target, so that the last step is a rename within one file system
    partial = target.parent / f".{target.name}.{uuid.uuid4().hex[:8]}.partial"
    try:
        _write(partial, meta, progress)
        _move_into_place(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return DemoData(Path(root))


def _write(folder: Path, meta: dict[str, Any], progress: bool) -> None:
    sources = load_sources(meta["seed"])
    (folder / "annotations").mkdir(parents=True)
    total = sum(meta[split] for split in SPLITS)
    with tqdm(total=total, unit="image", disable=not progress) as bar:
        for split in SPLITS:
            bar.set_description(split)
            coco = _write_split(folder / split, sources[split], split, meta, bar)
            (folder / "annotations" / f"{split}.json").write_text(json.dumps(coco))
    (folder / _META).write_text(json.dumps(meta, indent=2) + "\n")


def _write_split(
    folder: Path, sources: SplitSources, split: str, meta: dict[str, Any], bar: tqdm[Any]
) -> dict[str, Any]:
    """Writes a split's pictures and returns its COCO dictionary."""
    folder.mkdir()
    size: int = meta["size"]
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index in range(meta[split]):
        picture, instances = render(sources, split, index, size, meta["difficulty"], meta["seed"])
        name = f"{index:06d}.jpg"
        Image.fromarray(picture).save(folder / name, quality=_JPEG_QUALITY)
        images.append(
            {"id": index + 1, "file_name": name, "width": size, "height": size, "license": 2}
        )
        for instance in instances:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": index + 1,
                    "category_id": instance.label + 1,
                    "bbox": list(instance.bbox),
                    "area": instance.area,
                    "iscrowd": 0,
                }
            )
        bar.update()
    return {
        "info": {
            "description": f"lossweave demo data, {split}: handwritten digits on photographs",
            "version": str(meta["version"]),
            "contributor": "digits and photographs as shipped by scikit-learn",
        },
        "licenses": list(LICENSES),
        "images": images,
        "annotations": annotations,
        "categories": [
            {"id": i + 1, "name": name, "supercategory": "digit"} for i, name in enumerate(CLASSES)
        ],
    }


def _is_complete(target: Path, meta: dict[str, Any], overwrite: bool) -> bool:
    """Whether ``target`` already is what is asked for; raises where it must not be replaced."""
    if target.is_dir() and not any(target.iterdir()):
        return False
    if not target.exists():
        return False
    try:
        found = json.loads((target / _META).read_text())
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict) or "version" not in found:
        # overwrite is no licence to delete what this function did not write
        raise ValueError(
            f"root={str(target)!r} exists and is not a demo data set (no readable {_META}); "
            "name another folder or remove it yourself"
        )
    if found == meta:
        return True
    if overwrite:
        return False
    changed = ", ".join(
        f"{key}={found.get(key)!r} (asked for {meta[key]!r})"
        for key in meta
        if found.get(key) != meta[key]
    )
    raise ValueError(
        f"root={str(target)!r} holds a demo data set with {changed}; "
        "name another folder or allow it to be replaced with overwrite"
    )


def _move_into_place(partial: Path, target: Path) -> None:
    if target.is_dir() and any(target.iterdir()):
        outgoing = partial.with_suffix(".outgoing")
        target.rename(outgoing)
        partial.rename(target)
        shutil.rmtree(outgoing)
    else:
        partial.rename(target)


def _known_split(split: str) -> str:
    if split not in SPLITS:
        raise ValueError(f"split={split!r} is unknown; allowed: {', '.join(SPLITS)}")
    return split


def _checked_int(name: str, value: int, low: int, high: int | None = None) -> int:
    allowed = f"an integer from {low} to {high}" if high else f"an integer >= {low}"
    is_integer = isinstance(value, Integral) and not isinstance(value, bool)
    if not is_integer or value < low or (high is not None and value > high):
        raise ValueError(f"{name}={value!r} is not allowed; it must be {allowed}")
    return int(value)


def _checked_difficulty(value: str | float) -> float:
    if isinstance(value, str) and value in DIFFICULTIES:
        return DIFFICULTIES[value]
    if isinstance(value, Real) and not isinstance(value, bool) and 0 <= value <= 1:
        return float(value)
    names = ", ".join(repr(name) for name in DIFFICULTIES)
    raise ValueError(
        f"difficulty={value!r} is not allowed; it must be {names} or a number from 0 to 1"
    )
