"""Scores from detections in COCO's format, and how sure the difference of two of them is."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossweave.errors import LossweaveError

__all__ = ["GROUPS", "METRICS", "Quality", "average_precision", "paired_difference", "quality_of"]

#: What a training is scored by; see :class:`Quality`.
METRICS = ("ap", "ap50", "ap75")
#: Pictures are dealt into so many groups, each of which is left out once.
GROUPS = 10
_RECALLS = np.linspace(0.0, 1.0, 101)
_IOUS = np.linspace(0.5, 0.95, 10)
_AT = {"ap": slice(None), "ap50": slice(0, 1), "ap75": slice(5, 6)}


@dataclass(frozen=True)
class Quality:
    """How good some detections are.

    Args:
        ap: COCO AP, averaged over IoU .50:.95.
        ap50: at IoU .50, where a box need not be exact: mostly classification.
        ap75: at IoU .75, where it has to be: localisation as well.
        left_out: by metric, its value without each of the groups of pictures in turn.
    """

    ap: float
    ap50: float
    ap75: float
    left_out: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dict(
            **{metric: round(float(getattr(self, metric)), 6) for metric in METRICS},
            left_out={name: [round(v, 6) for v in found] for name, found in self.left_out.items()},
        )


def quality_of(
    detections: str | Path, annotations: str | Path, classes: Sequence[str] = ()
) -> Quality:
    """The quality of the detections in a file.

    Args:
        detections: a list of COCO results as JSON.
        annotations: COCO annotations as JSON.
        classes: the categories that count; all of them if empty.

    Raises:
        LossweaveError: a file is missing or not in COCO's format.
    """
    matches, pictures = _matched(Path(detections), Path(annotations), classes)
    whole = average_precision(matches, pictures)
    groups = [pictures[start::GROUPS] for start in range(min(GROUPS, len(pictures)))]
    without = [
        average_precision(matches, sorted(set(pictures) - set(group))) for group in groups
    ] or [whole]
    return Quality(**whole, left_out={m: tuple(one[m] for one in without) for m in METRICS})


def paired_difference(a: Sequence[float], b: Sequence[float]) -> tuple[float, float]:
    r"""Mean and standard error of a difference between two detectors on the same pictures.

    The delete-a-group jackknife: with :math:`d_j` the difference without group j of G,
    :math:`s^2 = \frac{G - 1}{G} \sum_j (d_j - \bar d)^2`. It says how much of the difference is
    the pictures' choice, which both detectors share, and nothing of another seed's.

    Args:
        a: a metric without each of the groups.
        b: of the other detector, in the same order.

    Raises:
        LossweaveError: they are of other groups.

    Example:
        >>> mean, error = paired_difference([0.5, 0.6], [0.4, 0.5])
        >>> round(mean, 6), round(error, 6)
        (0.1, 0.0)
    """
    if len(a) != len(b) or not a:
        raise LossweaveError(f"{len(a)} and {len(b)} groups of pictures make no pair")
    d = np.asarray(a, dtype=float) - np.asarray(b, dtype=float)
    spread = float(((d - d.mean()) ** 2).sum())
    return float(d.mean()), sqrt((len(d) - 1) / len(d) * spread)


def _matched(
    detections: Path, annotations: Path, classes: Sequence[str]
) -> tuple[dict[tuple[int, int], Mapping[str, Any]], list[int]]:
    """By category and picture, which detections hit; and the pictures."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    try:
        with contextlib.redirect_stdout(io.StringIO()):
            truth = COCO(str(annotations))
            found = json.loads(detections.read_text())
            results = truth.loadRes(found) if found else None
            pictures = sorted(truth.getImgIds())
            kept = sorted(truth.getCatIds(catNms=list(classes)) if classes else truth.getCatIds())
            if results is None:
                results = COCO()
                results.dataset = {**truth.dataset, "annotations": []}
                results.createIndex()
            evaluation = COCOeval(truth, results, "bbox")
            evaluation.params.imgIds, evaluation.params.catIds = pictures, kept
            evaluation.params.areaRng = [[0, 1e10]]
            evaluation.params.areaRngLbl = ["all"]
            evaluation.params.maxDets = [100]
            evaluation.evaluate()
    except (OSError, ValueError, KeyError, AssertionError) as error:
        where = f"{detections} or {annotations}"
        raise LossweaveError(f"{where} is not in COCO's format: {error}") from None
    return {
        (one["category_id"], one["image_id"]): one for one in evaluation.evalImgs if one
    }, pictures


def average_precision(
    matches: Mapping[tuple[int, int], Mapping[str, Any]], pictures: Sequence[int]
) -> dict[str, float]:
    """COCO's AP over some of the pictures, as ``COCOeval`` accumulates it.

    Args:
        matches: by category and picture, an entry of ``COCOeval.evalImgs``.
        pictures: their ids.

    Returns:
        Each of :data:`METRICS`; 0 where there is nothing to be found.
    """
    wanted = set(pictures)
    by_category: dict[int, list[Mapping[str, Any]]] = {}
    for (category, picture), entry in sorted(matches.items()):
        if picture in wanted:
            by_category.setdefault(category, []).append(entry)
    curves = [curve for entries in by_category.values() if (curve := _curve(entries)) is not None]
    if not curves:
        return dict.fromkeys(METRICS, 0.0)
    per_iou = np.mean(curves, axis=0)
    return {metric: float(per_iou[where].mean()) for metric, where in _AT.items()}


def _curve(entries: Sequence[Mapping[str, Any]]) -> NDArray[np.float64] | None:
    """One category's AP by IoU threshold, shape ``(10,)``; None without a box of it."""
    boxes = sum(int(np.count_nonzero(np.asarray(e["gtIgnore"]) == 0)) for e in entries)
    if not boxes:
        return None
    scores = np.concatenate([np.asarray(e["dtScores"], dtype=float) for e in entries])
    order = np.argsort(-scores, kind="mergesort")
    hits = np.concatenate([np.asarray(e["dtMatches"]) for e in entries], axis=1)[:, order]
    ignored = np.concatenate([np.asarray(e["dtIgnore"]) for e in entries], axis=1)[:, order]
    ignored = ignored.astype(bool)
    right = np.cumsum((hits > 0) & ~ignored, axis=1, dtype=float)
    wrong = np.cumsum((hits == 0) & ~ignored, axis=1, dtype=float)
    precision = np.zeros(len(_IOUS))
    for place, (good, bad) in enumerate(zip(right, wrong, strict=True)):
        recall = good / boxes
        share = good / np.maximum(good + bad, np.spacing(1))
        envelope = np.maximum.accumulate(share[::-1])[::-1]
        index = np.searchsorted(recall, _RECALLS, side="left")
        reached = index < len(recall)
        precision[place] = envelope[index[reached]].sum() / len(_RECALLS)
    return precision
