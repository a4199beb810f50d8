"""Fixed proposals under Detectron2: how they are made, and how they come to the images."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data import DatasetFromList, MapDataset
from detectron2.data.build import trivial_batch_collator
from detectron2.structures import BoxMode
from torch.utils.data import DataLoader
from tqdm import tqdm

from lossweave.alternating.proposals import ProposalFile, ProposalWriter
from lossweave.detectron2.alternating_detector import propose
from lossweave.errors import LossweaveError

__all__ = ["FixedProposals", "objects_of", "proposal_pass"]

#: Seconds after which a pass leaves what it has, in case of a crash.
_KEEP_EVERY = 600.0


class FixedProposals:
    """A mapper whose images come with their proposals.

    It gives Detectron2's ``DatasetMapper`` what that knows as precomputed proposals, so resizes,
    flips and crops move them as they move the image.

    Args:
        mapper: a ``DatasetMapper`` with ``precomputed_proposal_topk``.
        file: a file of :mod:`lossweave.alternating.proposals`.

    Raises:
        LossweaveError: no such file, a damaged one, or an image that is not in it.
    """

    def __init__(self, mapper: Callable[[dict[str, Any]], Any], file: str) -> None:
        self.mapper = mapper
        self.file = file
        self._opened: ProposalFile | None = None

    def __call__(self, entry: dict[str, Any]) -> Any:
        """The mapper's result for a data set dict, with ``proposals``."""
        if self._opened is None:  # in each worker; the content was checked before training
            self._opened = ProposalFile(self.file, verify=False)
        boxes, scores = self._opened[str(entry["image_id"])]
        given = {
            "proposal_boxes": boxes,
            "proposal_objectness_logits": scores,
            "proposal_bbox_mode": BoxMode.XYXY_ABS,
        }
        return self.mapper({**entry, **given})

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}


def proposal_pass(
    model: Any,
    entries: list[dict[str, Any]],
    mapper: Any,
    targets: dict[str, tuple[Path, dict[str, Any]]],
    key: str,
    label: str,
    batch_size: int = 1,
    num_workers: int = 0,
) -> dict[str, ProposalFile]:
    """Write the proposals of every image; several settings cost one pass.

    What an interruption leaves is taken up by the next call.

    Args:
        model: a network with an RPN.
        entries: data set dicts.
        mapper: to what the model takes, nothing augmented.
        targets: by name, a file and the RPN's settings for it.
        key: of weights and settings, noted in the files.
        label: of the progress bar.
        batch_size: images at a time.
        num_workers: processes that load them.

    Raises:
        LossweaveError: two images have the same id.
    """
    paths: dict[str, str] = {}
    for entry in entries:
        image, path = str(entry["image_id"]), entry["file_name"]
        if paths.setdefault(image, path) != path:
            raise LossweaveError(f"two images have the id {image!r}: {paths[image]} and {path}")
    unique = list({str(entry["image_id"]): entry for entry in entries}.values())
    writers = [ProposalWriter(path, key, settings) for path, settings in targets.values()]
    done = min(writer.take_up() for writer in writers) // batch_size * batch_size
    rest = MapDataset(DatasetFromList(unique[done:], copy=False), mapper)
    loader = DataLoader(
        rest, batch_size, num_workers=num_workers, collate_fn=trivial_batch_collator
    )
    begin = kept = time.perf_counter()
    settings = [s for _, s in targets.values()]
    model.eval()
    try:
        with tqdm(total=len(unique), initial=done, desc=label, unit="image") as bar:
            for batch in loader if len(rest) else ():
                found = propose(model, batch, settings)
                for writer, results in zip(writers, found, strict=True):
                    for entry, result in zip(batch, results, strict=True):
                        boxes = result.proposal_boxes.tensor.cpu().numpy()
                        scores = result.objectness_logits.cpu().numpy()
                        writer.add(str(entry["image_id"]), boxes, scores)
                bar.update(len(batch))
                if time.perf_counter() - kept > _KEEP_EVERY:
                    _keep(writers, begin)
                    begin = kept = time.perf_counter()
    except BaseException:
        _keep(writers, begin)
        raise
    for writer in writers:
        writer.seconds += time.perf_counter() - begin
        writer.close()
    return {name: ProposalFile(path, key) for name, (path, _) in targets.items()}


def _keep(writers: list[ProposalWriter], begin: float) -> None:
    for writer in writers:
        writer.seconds += time.perf_counter() - begin
        writer.keep()


def objects_of(entries: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    """The ground truth boxes of every image, (m, 4), without crowds and ignored ones.

    Args:
        entries: data set dicts.

    Raises:
        LossweaveError: they have no annotations.
    """
    found: dict[str, np.ndarray] = {}
    for entry in entries:
        if "annotations" not in entry:
            raise LossweaveError(
                "evaluation: the test set has no annotations, so there is no recall; recall=[]"
            )
        boxes = [
            BoxMode.convert(a["bbox"], a["bbox_mode"], BoxMode.XYXY_ABS)
            for a in entry["annotations"]
            if not (a.get("iscrowd", 0) or a.get("ignore", 0))
        ]
        found[str(entry["image_id"])] = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    return found
