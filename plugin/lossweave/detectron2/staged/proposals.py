"""Fixed proposals under Detectron2: how they are made, and how they come to the images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.config import instantiate
from detectron2.data import DatasetFromList, MapDataset
from detectron2.data.build import trivial_batch_collator
from detectron2.structures import BoxMode
from omegaconf import DictConfig
from torch.utils.data import DataLoader
from tqdm import tqdm

from lossweave.detectron2.staged.network import propose
from lossweave.errors import LossweaveError
from lossweave.staged.proposal_file import ProposalFile
from lossweave.staged.proposal_writer import PassWriters
from lossweave.utils.distributed import rank, world_size

__all__ = ["FixedProposals", "entries_of", "ground_truth_of", "proposal_pass"]


class FixedProposals:
    """A mapper whose images come with their proposals.

    It gives Detectron2's ``DatasetMapper`` what that knows as precomputed proposals, so resizes,
    flips and crops move them as they move the image.

    Args:
        mapper: a ``DatasetMapper`` with ``precomputed_proposal_topk``.
        file: a file of :mod:`lossweave.staged.proposal_file`.

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

    Returns:
        The files, opened and checked.

    Raises:
        LossweaveError: two images have the same id.
    """
    part = (rank(), world_size())
    writers = PassWriters(targets, key, part)
    for entry in entries:
        writers.check(str(entry["image_id"]), entry["file_name"])
    unique = list({str(entry["image_id"]): entry for entry in entries}.values())
    unique = unique[part[0] :: part[1]]
    done = writers.take_up(batch_size)
    rest = MapDataset(DatasetFromList(unique[done:], copy=False), mapper)
    loader = DataLoader(
        rest, batch_size, num_workers=num_workers, collate_fn=trivial_batch_collator
    )
    settings = [s for _, s in targets.values()]
    model.eval()
    progress = tqdm(total=len(unique), initial=done, desc=label, unit="image", disable=part[0] > 0)
    with writers, progress as bar:
        for batch in loader if len(rest) else ():
            found = propose(model, batch, settings)
            for entry, results in zip(batch, zip(*found, strict=True), strict=True):
                writers.add(str(entry["image_id"]), [_arrays(result) for result in results])
            bar.update(len(batch))
            writers.keep_at_times()
    writers.finish()
    return writers.files()


def _arrays(result: Any) -> tuple[np.ndarray, np.ndarray]:
    boxes, scores = result.proposal_boxes.tensor, result.objectness_logits
    return boxes.cpu().numpy(), scores.cpu().numpy()


def entries_of(cfg: DictConfig, split: str) -> list[dict[str, Any]]:
    """The data set dicts of a LazyConfig's split.

    Raises:
        LossweaveError: they are no list.
    """
    entries = instantiate(cfg.dataloader[split].dataset)
    if not isinstance(entries, list):
        raise LossweaveError(f"dataloader.{split}.dataset should be a list of data set dicts")
    return entries


def ground_truth_of(entries: list[dict[str, Any]]) -> dict[str, np.ndarray]:
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
