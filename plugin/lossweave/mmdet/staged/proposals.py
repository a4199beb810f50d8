"""Passes of an RPN over a data set: the fixed proposals of a stage, and their recall."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import ConfigDict
from mmengine.dist import get_rank, get_world_size
from mmengine.runner import Runner
from tqdm import tqdm

from lossweave.mmdet.staged.network import propose
from lossweave.staged.proposal_file import ProposalFile
from lossweave.staged.proposal_writer import PassWriters

__all__ = ["ground_truth_of", "proposal_pass"]


def proposal_pass(
    detector: Any,
    loader: Any,
    targets: dict[str, tuple[Path, dict[str, Any]]],
    key: str,
    label: str,
) -> dict[str, ProposalFile]:
    """Write the proposals of every image; several settings cost one pass.

    What an interruption leaves is taken up by the next call.

    Args:
        detector: a detector with an RPN.
        loader: config of the data, in their order; see
            :func:`~lossweave.mmdet.staged.configs.proposal_loader`.
        targets: by name, a file and the RPN's settings for it.
        key: of weights and settings, noted in the files.
        label: of the progress bar.

    Returns:
        The files, opened and checked.

    Raises:
        LossweaveError: two images have the same id.
    """
    data = Runner.build_dataloader(loader, seed=0)
    part = (get_rank(), get_world_size())
    writers = PassWriters(targets, key, part)
    settings = [ConfigDict(s) for _, s in targets.values()]
    size = data.batch_sampler.batch_size
    done = writers.take_up(size)
    data.batch_sampler.start_at(done // size)
    detector.eval()
    total = -(-len(data.dataset) // part[1])
    progress = tqdm(total=total, initial=done, desc=label, unit="image", disable=part[0] > 0)
    with writers, progress as bar:
        for batch in data:
            samples, found = propose(detector, batch, settings)
            for number, sample in enumerate(samples):
                image = str(sample.img_id)
                writers.check(image, str(sample.get("img_path", "")))
                writers.add(image, [_arrays(results[number]) for results in found])
            bar.update(len(samples))
            writers.keep_at_times()
    writers.finish()
    return writers.files()


def _arrays(results: Any) -> tuple[np.ndarray, np.ndarray]:
    boxes = getattr(results.bboxes, "tensor", results.bboxes)
    return boxes.cpu().numpy(), results.scores.cpu().numpy()


def ground_truth_of(dataset: Any) -> dict[str, np.ndarray]:
    """The ground truth boxes of every image, (m, 4), without crowds and ignored ones."""
    found: dict[str, np.ndarray] = {}
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        boxes = [i["bbox"] for i in info.get("instances", []) if not i.get("ignore_flag", 0)]
        found[str(info["img_id"])] = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    return found
