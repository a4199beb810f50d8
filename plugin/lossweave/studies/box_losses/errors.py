"""How far the boxes that a detector finds are from the objects that they stand for."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lossweave.staged.recall import overlaps

__all__ = ["LEAST_IOU", "BoxErrors", "box_errors"]

#: Below this overlap a box stands for no object.
LEAST_IOU = 0.1
#: What errors are rounded to, in a ledger.
_STEP = 1e-3


@dataclass(frozen=True)
class BoxErrors:
    """The errors of the boxes of those objects that were found.

    Args:
        objects: how many there are, found or not.
        sides: of a found object, the mean distance of its box's four sides from its own, over
            the square root of its area.
        overlap: likewise 1 - IoU.
    """

    objects: int
    sides: tuple[float, ...]
    overlap: tuple[float, ...]

    def as_dict(self) -> dict[str, int | list[int]]:
        """Plain values for a ledger, in thousandths.

        Example:
            >>> BoxErrors(2, (0.25,), (0.4,)).as_dict()
            {'objects': 2, 'sides': [250], 'overlap': [400]}
        """
        return dict(
            objects=self.objects,
            sides=[round(value / _STEP) for value in self.sides],
            overlap=[round(value / _STEP) for value in self.overlap],
        )


def box_errors(annotations: str | Path, boxes: str | Path) -> BoxErrors:
    """The errors of detections on a split.

    From the highest score on, a box stands for the object of its class and picture that it
    overlaps most, among those that no box stands for yet, where the IoU is at least
    :data:`LEAST_IOU`. No score is too low: which boxes there are is what the AP says.

    Args:
        annotations: COCO's JSON of the objects.
        boxes: COCO's JSON of the detections, as ``CocoMetric`` writes it.
    """
    objects = _by_picture_and_class(json.loads(Path(annotations).read_text())["annotations"])
    found = json.loads(Path(boxes).read_text())
    sides: list[float] = []
    overlap: list[float] = []
    by_place = _by_picture_and_class(sorted(found, key=lambda box: -box["score"]))
    for place, here in objects.items():
        free = np.ones(len(here), dtype=bool)
        for box in by_place.get(place, ()):
            fits = np.where(free, overlaps(here, box[None])[:, 0], 0.0)
            best = int(fits.argmax())
            if fits[best] < LEAST_IOU:
                continue
            free[best] = False
            size = np.sqrt(np.prod(here[best, 2:] - here[best, :2]))
            sides.append(float(np.abs(here[best] - box).mean() / size))
            overlap.append(float(1 - fits[best]))
            if not free.any():
                break
    return BoxErrors(sum(map(len, objects.values())), tuple(sides), tuple(overlap))


def _by_picture_and_class(entries: list[dict]) -> dict[tuple[int, int], np.ndarray]:
    grouped = defaultdict(list)
    for entry in entries:
        x, y, width, height = entry["bbox"]
        grouped[entry["image_id"], entry["category_id"]].append([x, y, x + width, y + height])
    return {place: np.array(found, dtype=float) for place, found in grouped.items()}
