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
from lossweave.errors import LossweaveError
from lossweave.mmdet.alternating_detector import propose

__all__ = ["objects_of", "proposal_pass"]

#: Seconds after which a pass leaves what it has, in case of a crash.
_KEEP_EVERY = 600.0


def proposal_pass(
    detector: Any,
    loader: Any,
    targets: dict[str, tuple[Path, dict[str, Any]]],
    key: str,
    label: str,
) -> tuple[dict[str, ProposalFile], Any]:
    """Write the proposals of every image; several settings cost one pass.

    What an interruption leaves is taken up by the next call.

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
    part = (get_rank(), get_world_size())
    writers = [ProposalWriter(path, key, settings, part) for path, settings in targets.values()]
    settings = [ConfigDict(s) for _, s in targets.values()]
    size = data.batch_sampler.batch_size
    done = min(writer.take_up() for writer in writers) // size * size
    data.batch_sampler.start_at(done // size)
    begin, kept = time.perf_counter(), time.perf_counter()
    paths: dict[str, str] = {}
    detector.eval()
    total = -(-len(data.dataset) // part[1])
    try:
        with tqdm(total=total, initial=done, desc=label, unit="image", disable=part[0] > 0) as bar:
            for batch in data:
                samples, found = propose(detector, batch, settings)
                for number, sample in enumerate(samples):
                    image, path = str(sample.img_id), str(sample.get("img_path", ""))
                    if paths.setdefault(image, path) != path:
                        raise LossweaveError(
                            f"two images have the id {image!r}: {paths[image]} and {path}"
                        )
                    for writer, results in zip(writers, found, strict=True):
                        _add(writer, image, results[number])
                bar.update(len(samples))
                if time.perf_counter() - kept > _KEEP_EVERY:
                    _keep(writers, begin)
                    begin = kept = time.perf_counter()
    except BaseException:
        _keep(writers, begin)
        raise
    if part[1] == 1:
        for writer in writers:
            writer.seconds += time.perf_counter() - begin
            writer.close()
    else:
        _keep(writers, begin)
        barrier()
        if part[0] == 0:
            for writer in writers:
                writer.merge()
        barrier()
    files = {name: ProposalFile(path, key) for name, (path, _) in targets.items()}
    return files, data.dataset


def _add(writer: ProposalWriter, image: str, results: Any) -> None:
    boxes = getattr(results.bboxes, "tensor", results.bboxes)
    writer.add(image, boxes.cpu().numpy(), results.scores.cpu().numpy())


def _keep(writers: list[ProposalWriter], begin: float) -> None:
    for writer in writers:
        writer.seconds += time.perf_counter() - begin
        writer.keep()


def objects_of(dataset: Any) -> dict[str, np.ndarray]:
    """The ground truth boxes of every image, (m, 4), without crowds and ignored ones."""
    found: dict[str, np.ndarray] = {}
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        boxes = [i["bbox"] for i in info.get("instances", []) if not i.get("ignore_flag", 0)]
        found[str(info["img_id"])] = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    return found
