"""Passes of an RPN over a data set: the fixed proposals of a stage, and their recall."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import ConfigDict
from mmengine.dist import barrier, get_rank, get_world_size
from mmengine.runner import Runner
from tqdm import tqdm

from lossweave.alternating.proposals import ProposalFile, ProposalWriter
from lossweave.distributed import gather_objects
from lossweave.errors import LossweaveError
from lossweave.mmdet.alternating_detector import propose

__all__ = ["objects_of", "proposal_pass"]


def proposal_pass(
    detector: Any,
    loader: Any,
    targets: dict[str, tuple[Path, dict[str, Any]]],
    key: str,
    label: str,
) -> tuple[dict[str, ProposalFile], Any]:
    """Write the proposals of every image; several settings cost one pass.

    What an interruption leaves is taken up by the next call, in one process.

    Args:
        detector: a detector with an RPN.
        loader: config of the data, in their order; see
            :func:`~lossweave.mmdet.alternating_configs.proposal_loader`.
        targets: by name, a file and the RPN's settings for it.
        key: of weights and settings, noted in the files.
        label: of the progress bar.

    Returns:
        The files, opened and checked, and the data set.

    Raises:
        LossweaveError: two images have the same id.
    """
    data = Runner.build_dataloader(loader, seed=0)
    writers = [ProposalWriter(path, key, settings) for path, settings in targets.values()]
    settings = [ConfigDict(s) for _, s in targets.values()]
    alone = get_world_size() == 1
    done = min(writer.take_up() for writer in writers) if alone else 0
    done -= done % data.batch_sampler.batch_size
    data.batch_sampler.start_at(done // data.batch_sampler.batch_size)
    paths: dict[str, str] = {}
    detector.eval()
    begin = time.perf_counter()
    total = len(data.dataset) // get_world_size()
    try:
        with tqdm(
            total=total, initial=done, desc=label, unit="image", disable=get_rank() > 0
        ) as bar:
            for batch in data:
                samples, found = propose(detector, batch, settings)
                for number, sample in enumerate(samples):
                    image = str(sample.img_id)
                    path = str(sample.get("img_path", image))
                    if paths.setdefault(image, path) != path:
                        raise LossweaveError(
                            f"two images have the id {image!r}: {paths[image]} and {path}"
                        )
                    for writer, results in zip(writers, found, strict=True):
                        boxes = results[number].bboxes
                        writer.add(
                            image,
                            getattr(boxes, "tensor", boxes).cpu().numpy(),
                            results[number].scores.cpu().numpy(),
                        )
                bar.update(len(samples))
    except BaseException:
        if alone:
            for writer in writers:
                writer.seconds += time.perf_counter() - begin
                writer.keep()
        raise
    for writer in writers:
        writer.seconds += time.perf_counter() - begin
        for part in gather_objects(writer._found):
            for image, (boxes, scores) in part.items():
                writer.add(image, boxes, scores)
        if get_rank() == 0:
            writer.close()
    barrier()
    files = {name: ProposalFile(path, key) for name, (path, _) in targets.items()}
    return files, data.dataset


def objects_of(dataset: Any) -> dict[str, np.ndarray]:
    """The ground truth boxes of every image, (m, 4), without crowds and ignored ones."""
    found: dict[str, np.ndarray] = {}
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        boxes = [i["bbox"] for i in info.get("instances", []) if not i.get("ignore_flag", 0)]
        found[str(info["img_id"])] = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    return found
