"""Passes of a stage's RPN over a data set: each is made once, and bound to what made it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lossweave.errors import LossweaveError
from lossweave.staged.adapter import Targets
from lossweave.staged.proposal_file import ProposalFile, fingerprint
from lossweave.staged.stages import Stage
from lossweave.staged.weights import StageWeights

__all__ = ["ProposalPasses"]


class ProposalPasses:
    """The proposal files of a training; what is missing is made.

    Args:
        weights: of the stages whose RPNs make them.
    """

    def __init__(self, weights: StageWeights) -> None:
        self._weights = weights
        self._adapter = weights.adapter
        self._plan = weights.adapter.plan

    def fixed(self, stage: Stage | str) -> Path:
        """The file of a stage's fixed proposals."""
        return self._weights.folder(stage) / "proposals.npz"

    def checked(self, stage: Stage) -> ProposalFile:
        """A stage's fixed proposals, which must be there.

        Raises:
            LossweaveError: they are not, are damaged, or something else has made them.
        """
        return ProposalFile(self.fixed(stage), self._key(stage, "train", self._plan.proposals))

    def for_training(self, stage: Stage) -> ProposalFile:
        """A stage's fixed proposals for a later stage.

        Raises:
            LossweaveError: there is none for any image.
        """
        path, settings = self.fixed(stage), self._plan.proposals
        if path.is_file():
            found = self.checked(stage)
        else:
            found = self._make(stage, "train", {"train": (path, settings)}, settings)["train"]
        if not found.per_image:
            raise LossweaveError(
                f"stage {stage.name!r} makes no proposals for any of {len(found)} images, so no "
                "later stage can be trained on them: train it longer, or lower "
                f"proposals.min_bbox_size={settings['min_bbox_size']!r}"
            )
        return found

    def for_evaluation(self, stage: Stage) -> dict[str, ProposalFile]:
        """Proposals for the evaluated split: as many as recall asks for, and as tests use."""
        split, folder = self._plan.split, self._weights.folder(stage)
        test = self._adapter.test_settings()
        many = max((*self._plan.recall, 1))
        recall = {**test, "nms_pre": max(many, test.get("nms_pre", 0)), "max_per_img": many}
        targets: Targets = {
            "recall": (folder / f"{split}_recall.npz", recall),
            "detection": (folder / f"{split}_proposals.npz", test),
        }
        settings = [recall, test]
        if all(path.is_file() for path, _ in targets.values()):
            key = self._key(stage, split, settings)
            return {name: ProposalFile(path, key) for name, (path, _) in targets.items()}
        return self._make(stage, split, targets, settings)

    def _make(
        self, stage: Stage, split: str, targets: Targets, settings: Any
    ) -> dict[str, ProposalFile]:
        state = self._weights.load(self._weights.final(stage))
        key = self._key(stage, split, settings)
        return self._adapter.make_proposals(stage, state, split, targets, key)

    def _key(self, stage: Stage, split: str, settings: Any) -> str:
        """What makes a stage's proposals, as a checksum: weights, settings, model, pipelines."""
        state = self._weights.load(self._weights.final(stage))
        return fingerprint(state, {"settings": settings, **self._adapter.proposers(split)})
