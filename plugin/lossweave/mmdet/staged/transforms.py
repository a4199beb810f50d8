"""Fixed proposals on their way into the data pipeline, through resizes, flips and crops."""

from __future__ import annotations

from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform

from lossweave.registry import TRANSFORMS
from lossweave.staged.proposal_file import ProposalFile

__all__ = ["UNRECORDED", "LoadFixedProposals", "follow"]

#: Transforms that move boxes without recording how; fixed proposals cannot follow them.
UNRECORDED = (
    "Albu",
    "CachedMixUp",
    "CachedMosaic",
    "CopyPaste",
    "Expand",
    "MinIoURandomCrop",
    "MixUp",
    "Mosaic",
    "RandomAffine",
    "RandomCenterCropPad",
    "RandomShift",
)


def follow(
    boxes: np.ndarray, homography: np.ndarray | None, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Where boxes of the original image are in the transformed one.

    Each box becomes the bounding box of its mapped corners, clipped to the image: exact for
    resizes, flips and crops.

    Args:
        boxes: (n, 4), x1, y1, x2, y2.
        homography: (3, 3), from original to transformed pixels; None means no change.
        shape: height and width of the transformed image.

    Returns:
        The boxes that are still in the image, (m, 4) float32, and which they were, (n,) bool.

    Example:
        >>> flip = np.array([[-1.0, 0, 10], [0, 1, 0], [0, 0, 1]])
        >>> follow(np.array([[1.0, 2, 4, 6]]), flip, (10, 10))[0].tolist()
        [[6.0, 2.0, 9.0, 6.0]]
    """
    boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    if homography is not None:
        corners = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)
        mapped = np.concatenate([corners, np.ones((*corners.shape[:2], 1))], axis=2)
        mapped = mapped @ np.asarray(homography, dtype=np.float64).T
        points = mapped[..., :2] / mapped[..., 2:]
        boxes = np.concatenate([points.min(axis=1), points.max(axis=1)], axis=1)
    height, width = shape
    boxes = boxes.clip(0, [width, height, width, height])
    inside: np.ndarray = np.all(boxes[:, 2:] > boxes[:, :2], axis=1)
    return boxes[inside].astype(np.float32), inside


@TRANSFORMS.register_module()
class LoadFixedProposals(BaseTransform):
    """Load the proposals of an image, in the coordinates that the image has by now.

    It stands right before ``PackDetInputs``, so proposals need no part in the transforms
    before it: the file has them in pixels of the original image, and MMDetection's ``Resize``,
    ``RandomFlip``, ``RandomCrop`` and geometric transforms record in ``homography_matrix`` what
    they did. A flipped image thus has flipped proposals; none are made on flipped images.

    Required keys: img_id, img_shape. Added keys: proposals, proposals_scores.

    Args:
        file: a file of :mod:`lossweave.staged.proposal_file`.
        count: proposals per image, the best; None means all.

    Raises:
        LossweaveError: no such file, a damaged one, or an image that is not in it.
    """

    def __init__(self, file: str, count: int | None = None) -> None:
        self.file = file
        self.count = count
        self._opened: ProposalFile | None = None

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Add the proposals to the results."""
        if self._opened is None:  # in each worker; the content was checked before training
            self._opened = ProposalFile(self.file, verify=False)
        boxes, scores = self._opened[str(results["img_id"])]
        moved, inside = follow(
            boxes[: self.count], results.get("homography_matrix"), results["img_shape"][:2]
        )
        results["proposals"] = moved
        results["proposals_scores"] = scores[: self.count][inside]
        return results

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}

    def __repr__(self) -> str:
        return f"{type(self).__name__}(file={self.file!r}, count={self.count})"
