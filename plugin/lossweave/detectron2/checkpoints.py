"""Checkpoints that are there as a whole or not at all."""

import logging
from pathlib import Path
from typing import Any

import torch
from detectron2.checkpoint import DetectionCheckpointer

from lossweave.host.checkpoints import check_resumable, newest_whole
from lossweave.host.unpickling import refuse_calls
from lossweave.utils.files import replacing, write_atomically

__all__ = ["WholeCheckpointer", "start_from"]

_LOGGER = logging.getLogger("detectron2.lossweave")
#: What a checkpoint must hold to be gone on from.
_RESUMABLE = ("model", "trainer")


class WholeCheckpointer(DetectionCheckpointer):
    """Detectron2's checkpointer, whose files are written beside and renamed.

    The newest checkpoint is the newest that is whole, whatever a killed run has left.

    Args: those of ``DetectionCheckpointer``.
    """

    def save(self, name: str, **kwargs: Any) -> None:
        """Write a checkpoint: the whole file, or none."""
        if not self.save_dir or not self.save_to_disk:
            return
        states = {key: each.state_dict() for key, each in self.checkpointables.items()}
        path = Path(self.save_dir) / f"{name}.pth"
        self.logger.info("Saving checkpoint to %s", path)
        with replacing(path) as temporary:
            torch.save({"model": self.model.state_dict(), **states, **kwargs}, temporary)
        self.tag_last_checkpoint(path.name)

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Note which is the last one."""
        write_atomically(Path(self.save_dir) / "last_checkpoint", last_filename_basename.encode())

    def has_checkpoint(self) -> bool:
        """Whether there is a whole checkpoint."""
        return bool(self.get_checkpoint_file())

    def get_checkpoint_file(self) -> str:
        """The newest whole checkpoint, or ''.

        Raises:
            LossweaveError: there are only damaged ones.
        """
        found = newest_whole(self.save_dir, _LOGGER.warning)
        return "" if found is None else str(found)


def start_from(
    checkpointer: WholeCheckpointer, trainer: Any, weights: str, resume: str | None
) -> int:
    """Load what a training starts from.

    Args:
        checkpointer: the trainer's.
        trainer: which the checkpoint restores.
        weights: the config's, for a training that begins.
        resume: None, 'auto' for the newest whole checkpoint of the output directory, or a path.

    Returns:
        The iteration to train first.

    Raises:
        LossweaveError: the checkpoint is missing, damaged, or lacks what resuming takes.
    """
    path = checkpointer.get_checkpoint_file() if resume == "auto" else resume
    if not path:
        if resume:
            _LOGGER.warning("%s has no checkpoint: beginning anew", checkpointer.save_dir)
        checkpointer.load(weights, checkpointables=[])
        return 0
    check_resumable(path, _RESUMABLE)
    if resume == "auto":
        refuse_calls(path, f"where you trust it, name it: --resume {path}")
    checkpointer.load(path)
    return trainer.iter + 1
