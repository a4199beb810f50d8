"""The boxes that a finished training finds on the test split."""

from __future__ import annotations

from pathlib import Path

from lossweave.errors import LossweaveError
from lossweave.host.paths import resolve_config
from lossweave.studies.runs.method import Trial
from lossweave.studies.runs.processes import call

__all__ = ["boxes_of", "kept_boxes"]


def kept_boxes(trial: Trial) -> str:
    """The option of a test that writes the boxes to where :func:`boxes_of` finds them."""
    return f"test_evaluator.outfile_prefix={_prefix(trial)}"


def boxes_of(trial: Trial) -> Path:
    """COCO's JSON of a finished training's boxes, which is tested again if they were not kept.

    Raises:
        LossweaveError: the test failed (its log is named), or wrote to another place.
    """
    boxes = _prefix(trial).with_name("boxes.bbox.json")
    if not boxes.is_file():
        checkpoint = (trial.folder / "last_checkpoint").read_text().strip()
        words = [
            *("tools/test.py", resolve_config(trial.config), checkpoint),
            *("--work-dir", str(trial.folder / "boxes"), "--cfg-options", *trial.options),
            kept_boxes(trial),
        ]
        call(words, trial.folder / "log.txt", trial.jobs)
    if not boxes.is_file():  # options lose their spaces, so it is elsewhere
        raise LossweaveError(f"{boxes} was not written; choose a --work-dir without spaces")
    return boxes


def _prefix(trial: Trial) -> Path:
    return trial.folder / "test" / "boxes"
