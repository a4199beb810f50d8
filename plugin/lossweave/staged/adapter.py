"""What a framework does for a training in stages, and in which order it is asked to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from lossweave.staged.plan import Plan
from lossweave.staged.proposal_file import ProposalFile
from lossweave.staged.record import StageRecord
from lossweave.staged.stages import Stage

__all__ = ["Adapter", "State", "Targets"]

State = dict[str, torch.Tensor]
#: By name, a file of proposals and the RPN's settings for it.
Targets = dict[str, tuple[Path, dict[str, Any]]]


class Adapter(Protocol):
    """How one framework trains a stage, makes proposals and evaluates a detector.

    It knows nothing of the stages before and after, of resuming, or of what the files in the
    work directory mean: that is :class:`~lossweave.staged.training.StagedTraining`, which asks
    it in this order (what a resumed training has already is not asked for again)::

        adapter.check()
        adapter.settings()  # into the record, or compared with what is there
        adapter.dump_config()
        whole, model = adapter.init_weights(seed, fresh=False)  # every stage's 'initial'
        for stage in plan.schedule.stages:
            drawn, _ = adapter.init_weights(another_seed, fresh=True)  # if it starts 'fresh'
            start = put_together(whole, drawn, ends)  # a file
            ends[stage], meta = adapter.fit(stage, start, proposals, stage_seed, record)
            if a_later_stage_is_trained_on_its_proposals:
                made_by = adapter.proposers("train")  # in the files' key
                adapter.make_proposals(stage, ends[stage], "train", targets, key)
            if the_stage_is_evaluated:
                adapter.test_settings()
                made_by = adapter.proposers(plan.split)
                adapter.make_proposals(stage, ends[stage], plan.split, targets, key)
                adapter.ground_truth(plan.split)  # for recall
                adapter.evaluate(stage_or_whole, checkpoint, proposals, folder)

    With several processes every one of them asks all of this, in the same order.
    """

    #: The framework's name in the record.
    framework: str
    #: The weights' key in a checkpoint.
    weights_key: str
    #: The modules of the parts whose names are others.
    modules: Mapping[str, str]
    #: What is trained, proposed and evaluated.
    plan: Plan
    #: Where everything goes.
    work_dir: Path
    #: Decides the first weights, which all stages and joint training share, and with the
    #: number of the stage the order of its data and its sampling.
    seed: int

    def check(self) -> None:
        """Find out before training what can be known of stages and evaluation by then.

        Raises:
            LossweaveError: the terms do not fit a stage's losses, or there is nothing to
                evaluate with.
        """
        ...

    def settings(self) -> dict[str, Any]:
        """What decides the numbers beside the plan: model, data and optimizer, as JSON.

        It is the same in every process and session, whatever has been built meanwhile.
        """
        ...

    def config_name(self) -> str:
        """The config's name, for the record."""
        ...

    def dump_config(self) -> None:
        """Write the config into the work directory."""
        ...

    def init_weights(self, seed: int, fresh: bool) -> tuple[State, torch.nn.Module]:
        """The whole detector with weights of a seed: its state dict, and itself.

        Args:
            seed: of the draw.
            fresh: whether heads are drawn anew, whatever checkpoint the config starts from.
        """
        ...

    def fit(
        self, stage: Stage, start: Path, proposals: Path | None, seed: int, record: StageRecord
    ) -> tuple[State, dict[str, Any]]:
        """Train a stage, from its newest checkpoint or from ``start``.

        Args:
            stage: which.
            start: the weights that it starts from.
            proposals: file of fixed proposals.
            seed: of its data order and sampling.
            record: where what is measured goes, however the session ends.

        Returns:
            The network's state dict, and what else its checkpoints should hold.
        """
        ...

    def proposers(self, split: str) -> Any:
        """What makes proposals, beside weights and settings: model and pipelines, as JSON.

        The same holds for it.
        """
        ...

    def make_proposals(
        self, stage: Stage, weights: State, split: str, targets: Targets, key: str
    ) -> dict[str, ProposalFile]:
        """Proposals by the network that a stage ended in, for every image of a split.

        Args:
            stage: whose network.
            weights: those it ended in.
            split: of the data.
            targets: by name, a file and the RPN's settings for it.
            key: of all that makes the proposals, noted in the files.

        Returns:
            The files, opened and checked.
        """
        ...

    def ground_truth(self, split: str) -> dict[str, np.ndarray]:
        """The boxes of every image's objects, (m, 4), without crowds and ignored ones."""
        ...

    def test_settings(self) -> dict[str, Any]:
        """The RPN's settings in tests, by the names of the paper's in ``proposals``."""
        ...

    def evaluate(
        self, stage: Stage | None, checkpoint: Path, proposals: Path | None, folder: Path
    ) -> dict[str, float]:
        """AP and AP50 of a network, each from 0 to 1.

        Args:
            stage: whose network; None means the whole detector.
            checkpoint: its weights.
            proposals: file of fixed proposals, for a network without an RPN.
            folder: for logs.
        """
        ...

    def log(self, message: str) -> None:
        """Log a line."""
        ...
