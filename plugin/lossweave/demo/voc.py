"""From a folder in VOC layout to COCO annotations, which stay beside the pictures as they are."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from PIL import Image
from tqdm import tqdm

from lossweave.errors import LossweaveError
from lossweave.utils.files import write_json

__all__ = ["SPLITS", "VocData", "prepare_voc"]

SPLITS = ("train", "val", "test")
_PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".JPG", ".JPEG", ".PNG")
_SHOWN = 3


@dataclass(frozen=True)
class VocData:
    """What was written.

    Args:
        files: by split, the annotation file.
        classes: the category names, sorted or as asked; a category's id is 1 + its index.
        pictures: by split, how many.
        boxes: by split, how many.
        remarks: what was left out or mended, a line each.
    """

    files: dict[str, Path]
    classes: tuple[str, ...]
    pictures: dict[str, int]
    boxes: dict[str, int]
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class _Box:
    name: str
    corners: tuple[float, float, float, float]
    difficult: bool


@dataclass
class _Noticed:
    """What is said at the end: of each kind, where it was."""

    found: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, where: str) -> None:
        self.found.setdefault(kind, []).append(where)

    def lines(self) -> tuple[str, ...]:
        return tuple(
            f"{len(where)} {kind}: {', '.join(where[:_SHOWN])}{', ...' * (len(where) > _SHOWN)}"
            for kind, where in self.found.items()
        )


def prepare_voc(
    root: str | Path,
    out: str | Path | None = None,
    classes: Sequence[str] = (),
    split: Sequence[float] | None = None,
    seed: int = 0,
    skip_missing: bool = False,
    progress: bool = True,
) -> VocData:
    """Write ``out/annotations/{train,val,test}.json`` from ``root/Annotations/*.xml``.

    Pictures are not copied: their names in the annotations are paths relative to ``out``. VOC
    counts pixels from 1, COCO from 0: a box is [xmin - 1, ymin - 1, xmax - xmin, ymax - ymin], as
    MMDetection reads VOC. Boxes that are empty, inverted or outside of their picture are left
    out; what reaches out of it is cut; difficult objects are marked ``iscrowd``, so that they
    neither train nor count.

    Args:
        root: a folder with ``Annotations`` and ``JPEGImages``.
        out: where the annotations go; ``root`` if None.
        classes: the names that count, in this order; all that are found, sorted, if empty.
        split: parts of train, val and test, drawn at random; None takes ``ImageSets/Main``, and
            0.7, 0.15, 0.15 where that has no train and val.
        seed: of the random split.
        skip_missing: whether annotations without a picture are left out rather than refused.
        progress: whether to show a bar.

    Raises:
        LossweaveError: naming the folder, file, class or number that is wrong.
    """
    root = Path(root)
    out = root if out is None else Path(out)
    for folder in ("Annotations", "JPEGImages"):
        if not (root / folder).is_dir():
            raise LossweaveError(f"{root} has no folder {folder!r}; VOC layout has one")
    noticed = _Noticed()
    members = _members(root, split, seed, noticed)
    found = {
        name: [
            picture
            for stem in tqdm(stems, desc=name, unit="picture", disable=not progress)
            if (picture := _picture(root, out, stem, skip_missing, noticed))
        ]
        for name, stems in members.items()
    }
    names = _classes(found, classes, noticed)
    data = VocData(
        files={name: out / "annotations" / f"{name}.json" for name in found},
        classes=names,
        pictures={name: len(pictures) for name, pictures in found.items()},
        boxes={},
        remarks=(),
    )
    for name, pictures in found.items():
        content = _coco(pictures, names)
        data.boxes[name] = len(content["annotations"])
        try:
            write_json(data.files[name], content)
        except OSError as error:
            why = f"{data.files[name]} cannot be written: {error.strerror}"
            raise LossweaveError(why) from None
    return VocData(**{**data.__dict__, "remarks": noticed.lines()})


def _members(
    root: Path, split: Sequence[float] | None, seed: int, noticed: _Noticed
) -> dict[str, list[str]]:
    """By split, the stems of its pictures."""
    lists = {name: root / "ImageSets" / "Main" / f"{name}.txt" for name in SPLITS}
    there = {name: path for name, path in lists.items() if path.is_file()}
    if split is None and {"train", "val"} <= there.keys():
        members = {}
        for name, path in there.items():
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
            # A list of one class has a second column, which says whether it is in the picture.
            members[name] = list(dict.fromkeys(line.split()[0] for line in lines if line.split()))
        counts = Counter(stem for stems in members.values() for stem in stems)
        for stem, count in counts.items():
            if count > 1:
                noticed.add("pictures in several splits", stem)
    else:
        members = _drawn(sorted(p.stem for p in (root / "Annotations").glob("*.xml")), split, seed)
    if empty := [name for name, stems in members.items() if not stems]:
        raise LossweaveError(f"{root}: no pictures are left for {empty[0]!r}")
    return members


def _drawn(stems: list[str], split: Sequence[float] | None, seed: int) -> dict[str, list[str]]:
    parts = (0.7, 0.15, 0.15) if split is None else tuple(split)
    if len(parts) != len(SPLITS) or any(not isfinite(p) or p <= 0 for p in parts):
        shown = " ".join(f"{part:g}" for part in parts)
        raise LossweaveError(f"--split {shown}: three parts above 0 (train, val, test) are needed")
    random.Random(seed).shuffle(stems)
    first = round(len(stems) * parts[0] / sum(parts))
    second = first + round(len(stems) * parts[1] / sum(parts))
    pieces = (stems[:first], stems[first:second], stems[second:])
    return {name: sorted(piece) for name, piece in zip(SPLITS, pieces, strict=True)}


def _picture(
    root: Path, out: Path, stem: str, skip_missing: bool, noticed: _Noticed
) -> dict[str, Any] | None:
    """One picture with its boxes, or None where it is left out."""
    file = root / "Annotations" / f"{stem}.xml"
    try:
        tree = ElementTree.parse(file).getroot()
    except FileNotFoundError:
        raise LossweaveError(f"{stem!r} is in a split and has no {file}") from None
    except (ElementTree.ParseError, OSError, ValueError) as error:
        raise LossweaveError(f"{file} is no XML that can be read: {error}") from None
    image = _image_of(root, stem, tree)
    if image is None:
        if not skip_missing:
            raise LossweaveError(
                f"{file} has no picture in {root / 'JPEGImages'}; --skip-missing leaves such out"
            )
        noticed.add("annotations without a picture left out", stem)
        return None
    try:
        with Image.open(image) as opened:
            width, height = opened.size
    except OSError as error:
        raise LossweaveError(f"{image} is no picture that can be read: {error}") from None
    said = (_number(tree, "size/width"), _number(tree, "size/height"))
    if None not in said and said != (width, height):
        noticed.add("pictures of another size than their XML says; theirs is taken", stem)
    boxes = [_inside(box, width, height) for box in _boxes(tree, file)]
    for _ in range(boxes.count(None)):
        noticed.add("empty, inverted or outlying boxes dropped", stem)
    return dict(
        file_name=Path(os.path.relpath(image.resolve(), out.resolve())).as_posix(),
        width=width,
        height=height,
        boxes=[box for box in boxes if box is not None],
    )


def _image_of(root: Path, stem: str, tree: ElementTree.Element) -> Path | None:
    named = Path((tree.findtext("filename") or "").strip()).name
    names = [*(stem + ending for ending in _PICTURES), named]
    paths = (root / "JPEGImages" / name for name in names if name)
    return next((path for path in paths if path.is_file()), None)


def _boxes(tree: ElementTree.Element, file: Path) -> Iterable[_Box]:
    for thing in tree.iter("object"):
        name = (thing.findtext("name") or "").strip()
        corners = [_number(thing, f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax")]
        if not name or None in corners:
            raise LossweaveError(f"{file}: an object without a name or a box of four numbers")
        left, top, right, bottom = (float(corner or 0) for corner in corners)
        yield _Box(name, (left, top, right, bottom), bool(_number(thing, "difficult")))


def _number(tree: ElementTree.Element, path: str) -> float | None:
    try:
        value = float(tree.findtext(path) or "")
    except ValueError:
        return None
    return value if isfinite(value) else None


def _inside(box: _Box, width: int, height: int) -> _Box | None:
    """The box counted from 0 and cut to its picture; None where nothing is left of it."""
    left, top, right, bottom = (corner - 1 for corner in box.corners)
    cut = (max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height)))
    if cut[2] <= cut[0] or cut[3] <= cut[1]:
        return None
    return _Box(box.name, cut, box.difficult)


def _classes(
    found: dict[str, list[dict[str, Any]]], asked: Sequence[str], noticed: _Noticed
) -> tuple[str, ...]:
    """The classes that count; objects of others are taken out of the pictures."""
    per_split = {
        split: {box.name for picture in pictures for box in picture["boxes"]}
        for split, pictures in found.items()
    }
    there = set().union(*per_split.values())
    if not there:
        raise LossweaveError("no box is left in any picture")
    if len(set(asked)) < len(asked):
        raise LossweaveError(f"--classes: a name is given twice in {' '.join(asked)}")
    if unknown := [name for name in asked if name not in there]:
        raise LossweaveError(
            f"--classes: no object is a {unknown[0]!r}; there are {', '.join(sorted(there))}"
        )
    names = tuple(asked) or tuple(sorted(there))
    for pictures in found.values():
        for picture in pictures:
            for box in picture["boxes"]:
                if box.name not in names:
                    noticed.add("objects of classes that were not asked for left out", box.name)
            picture["boxes"] = [box for box in picture["boxes"] if box.name in names]
    for name in names:
        if name not in per_split["train"]:
            noticed.add("classes that no training picture has", name)
    return names


def _coco(pictures: Sequence[dict[str, Any]], names: tuple[str, ...]) -> dict[str, Any]:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, picture in enumerate(pictures, start=1):
        size = dict(width=picture["width"], height=picture["height"])
        images.append(dict(id=number, file_name=picture["file_name"], **size))
        for box in picture["boxes"]:
            left, top, right, bottom = box.corners
            wide, high = right - left, bottom - top
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=number,
                    category_id=1 + names.index(box.name),
                    bbox=[left, top, wide, high],
                    area=wide * high,
                    iscrowd=int(box.difficult),
                )
            )
    categories = [dict(id=number, name=name) for number, name in enumerate(names, start=1)]
    return dict(images=images, annotations=annotations, categories=categories)
