"""Precision over recall of a detector's boxes, as COCO counts them."""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

__all__ = ["IOUS", "NOTHING", "Curves", "curves_of"]

#: How well a box has to fit its object.
IOUS = (0.5, 0.6, 0.75)
#: Where COCO reads the precision.
_RECALLS = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class Curves:
    """The precision at recalls 0, 0.01, ..., 1, the mean over classes.

    Args:
        precision: a list of 101 for each of :data:`IOUS`; never rising.
    """

    precision: tuple[tuple[float, ...], ...]

    def average(self, iou: float) -> float:
        """AP at this IoU: the mean precision over the recalls.

        Example:
            >>> half = Curves(((1.0,) * 51 + (0.0,) * 50,) * 3)
            >>> round(half.average(0.5), 3)
            0.505
        """
        return float(np.mean(self._at(iou)))

    def recall_at(self, iou: float, precision: float) -> float:
        """The largest recall with at least this precision; 0 without any.

        Example:
            >>> falling = Curves((tuple(1 - r / 100 for r in range(101)),) * 3)
            >>> falling.recall_at(0.5, 0.9), falling.precision_at(0.5, 0.9)
            (0.1, 0.1)
        """
        enough = np.flatnonzero(np.asarray(self._at(iou)) >= precision - 1e-9)
        return round(float(_RECALLS[enough[-1]]), 10) if len(enough) else 0.0

    def precision_at(self, iou: float, recall: float) -> float:
        """The precision at this recall; 0 where it is not reached."""
        return round(float(self._at(iou)[round(recall * 100)]), 10)

    def _at(self, iou: float) -> tuple[float, ...]:
        return self.precision[IOUS.index(iou)]


#: Of a detector that finds nothing.
NOTHING = Curves(tuple((0.0,) * len(_RECALLS) for _ in IOUS))


def curves_of(annotations: str | Path, boxes: str | Path) -> Curves:
    """The curves of detections, by pycocotools.

    Args:
        annotations: COCO's JSON of the objects.
        boxes: COCO's JSON of the detections, as ``CocoMetric`` writes it.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    found = json.loads(Path(boxes).read_text())
    if not found:
        return NOTHING
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(annotations))
        evaluation = COCOeval(truth, truth.loadRes(found), "bbox")
        evaluation.params.iouThrs = np.asarray(IOUS)
        evaluation.params.recThrs = _RECALLS
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, :, 0, -1]  # all areas, 100 boxes a picture
    known = np.where(precision < 0, np.nan, precision)  # a class without objects has none
    return Curves(tuple(tuple(map(float, row)) for row in np.nanmean(known, axis=2)))
