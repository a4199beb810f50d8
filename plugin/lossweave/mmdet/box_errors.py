"""Training boxes with gross errors, to ask what a box loss makes of outliers."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import torch
from mmcv.transforms import BaseTransform

from lossweave.errors import LossweaveError
from lossweave.registry import TRANSFORMS

__all__ = ["GrossBoxErrors", "misplaced"]


def misplaced(
    boxes: np.ndarray, shape: tuple[int, int], generator: np.random.Generator
) -> np.ndarray:
    r"""Boxes that hardly cover what they should.

    .. math:: x' = x + s_x d_x w, \quad w' = w e^{u_x}

    and likewise in y: x is the middle, w the side, d uniform in [0.5, 1], u uniform in
    [-ln 2, ln 2], s the side with more room. A box that is moved by half its sides or more
    has an IoU of at most 1/7 with what it was, if it kept its size, and of less than 1/2 after
    any of these changes.

    Args:
        boxes: (n, 4), x1, y1, x2, y2 in pixels.
        shape: height and width of the picture, into which the boxes are clipped.
        generator: of the random numbers; a box takes four.

    Returns:
        (n, 4).

    Example:
        >>> moved = misplaced(np.array([[10.0, 10, 30, 30]]), (100, 100), np.random.default_rng(0))
        >>> moved.round().tolist()
        [[31.0, 28.0, 42.0, 38.0]]
    """
    size = np.array([shape[1], shape[0]], dtype=np.float64)
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    sides = boxes[:, 2:] - boxes[:, :2]
    drawn = generator.random((len(boxes), 4))
    away = np.where(middle < size / 2, 1.0, -1.0)
    middle = middle + away * (0.5 + 0.5 * drawn[:, :2]) * sides
    half = sides * 2.0 ** (2 * drawn[:, 2:] - 1) / 2
    low = np.clip(middle - half, 0, size - 1)
    return np.concatenate([low, np.clip(middle + half, low + 1, size)], axis=1)


@TRANSFORMS.register_module()
class GrossBoxErrors(BaseTransform):
    """Give a share of the training boxes a gross error, the same one in every epoch.

    It stands right after ``LoadAnnotations``: what is wrong is the annotation, so every
    augmentation sees the wrong box. Labels stay. Which boxes, and how they are wrong, follows
    from the seed, the picture's ``img_id`` and the box's place in it alone, whatever the order
    of the data and the number of workers; with a larger share the boxes of a smaller one are
    wrong in the same way.

    Args:
        share: of the boxes, in [0, 1].
        seed: another one makes other boxes wrong.

    Raises:
        LossweaveError: a share outside [0, 1], or a seed below 0.

    Example:
        In a training pipeline::

            dict(type='LoadAnnotations', with_bbox=True),
            dict(type='lossweave.GrossBoxErrors', share=0.05),
    """

    def __init__(self, share: float, seed: int = 0) -> None:
        if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share <= 1:
            raise LossweaveError(f"GrossBoxErrors: share {share!r} should be in [0, 1]")
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise LossweaveError(f"GrossBoxErrors: seed {seed!r} should be an integer from 0 on")
        self.share, self.seed = share, seed

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """The picture with some of its ``gt_bboxes`` misplaced."""
        boxes = results["gt_bboxes"]
        if not len(boxes):
            return results
        numbers = torch.as_tensor(getattr(boxes, "tensor", boxes)).double().numpy()
        picture = zlib.crc32(str(results["img_id"]).encode())
        generator = np.random.default_rng([self.seed, picture])
        wrong = generator.random(len(numbers)) < self.share
        moved = misplaced(numbers, results["img_shape"][:2], generator)
        found = np.where(wrong[:, None], moved, numbers).astype(np.float32)
        if hasattr(boxes, "tensor"):
            found = type(boxes)(torch.from_numpy(found), dtype=boxes.tensor.dtype)
        return {**results, "gt_bboxes": found}

    def __repr__(self) -> str:
        return f"{type(self).__name__}(share={self.share}, seed={self.seed})"
