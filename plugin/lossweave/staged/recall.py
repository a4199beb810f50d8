"""Average recall of proposals, whatever their class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

__all__ = ["IOU_THRESHOLDS", "average_recall", "overlaps"]

#: COCO's: 0.50, 0.55, ..., 0.95.
IOU_THRESHOLDS = tuple(np.round(np.arange(0.5, 1.0, 0.05), 2).tolist())


def overlaps(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Intersection over union of (m, 4) and (n, 4) boxes as (m, n).

    Example:
        >>> overlaps(np.array([[0., 0, 2, 2]]), np.array([[0., 0, 2, 1], [3, 3, 4, 4]])).tolist()
        [[0.5, 0.0]]
    """
    low = np.maximum(one[:, None, :2], two[None, :, :2])
    high = np.minimum(one[:, None, 2:], two[None, :, 2:])
    common = np.clip(high - low, 0, None).prod(axis=2)
    areas = [np.clip(b[:, 2:] - b[:, :2], 0, None).prod(axis=1) for b in (one, two)]
    union = areas[0][:, None] + areas[1][None] - common
    return common / np.maximum(union, np.finfo(float).tiny)


def average_recall(
    ground_truth: Mapping[str, np.ndarray],
    proposals: Mapping[str, np.ndarray],
    counts: Sequence[int] = (100, 300, 1000),
    thresholds: Sequence[float] = IOU_THRESHOLDS,
) -> dict[str, float]:
    """AR@n: the recall by the n best proposals of an image, averaged over IoU thresholds.

    An object is recalled at a threshold if a proposal of its own overlaps it that far; pairs
    are made by falling overlap. Classes and sizes of objects do not count.

    Args:
        ground_truth: by image, (m, 4) boxes of its objects.
        proposals: by image, (n, 4) boxes, best first; images without any may be left out.
        counts: the n's.
        thresholds: of the overlap.

    Returns:
        ``{"AR@100": ..., ...}``, each from 0 to 1; nan where there is no object.

    Source: Hosang et al., "What makes for effective detection proposals?", 2016, and COCO.

    Example:
        >>> boxes = np.array([[0.0, 0, 10, 10]])
        >>> average_recall({"a": boxes}, {"a": np.array([[0.0, 0, 10, 7.2]])}, counts=(1,))
        {'AR@1': 0.5}
    """
    none = np.zeros((0, 4))
    found: dict[str, float] = {}
    for count in counts:
        matched = [
            _matched(
                overlaps(boxes.astype(float), proposals.get(image, none)[:count].astype(float))
            )
            for image, boxes in ground_truth.items()
            if len(boxes)
        ]
        values = np.concatenate(matched) if matched else np.zeros(0)
        recalls = [float((values >= t).mean()) if len(values) else float("nan") for t in thresholds]
        found[f"AR@{count}"] = float(np.mean(recalls))
    return found


def _matched(ious: np.ndarray) -> np.ndarray:
    """Each object's overlap with the proposal that is paired with it; 0 without one."""
    best = np.zeros(len(ious))
    ious = ious.copy()
    for _ in range(min(ious.shape)):
        row, column = np.unravel_index(np.argmax(ious), ious.shape)
        if ious[row, column] <= 0:
            break
        best[row] = ious[row, column]
        ious[row, :] = ious[:, column] = -1
    return best
