"""Training in stages under Detectron2: a LazyConfig with a ``schedule``.

A yaml config with one becomes such a LazyConfig (:mod:`lossweave.detectron2.staged.yaml`).

Every stage is an ordinary training in a folder of its own. What is done is known from the files
that it has left (see :mod:`lossweave.staged.training`), so a training goes on wherever it was
stopped, to the same weights bit for bit. The final detector is an ordinary checkpoint.
"""

from __future__ import annotations

import copy
import logging
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import LazyConfig, instantiate

from lossweave.detectron2.interrupt import SaveOnInterruptHook
from lossweave.detectron2.lazy import evaluate_lazy, train_lazy
from lossweave.detectron2.staged.checks import check_data, check_losses
from lossweave.detectron2.staged.configs import (
    deciding_of,
    described,
    detector_of,
    evaluation_config,
    plan_of,
    stage_config,
    stage_model,
    training_seed,
)
from lossweave.detectron2.staged.hooks import (
    FrozenHook,
    StageClockHook,
    StageRecordHook,
    unwrapped,
)
from lossweave.detectron2.staged.network import MODULES, check_detector, rpn_settings
from lossweave.detectron2.staged.proposals import entries_of, ground_truth_of, proposal_pass
from lossweave.errors import LossweaveError
from lossweave.host.checkpoints import newest_whole
from lossweave.host.unpickling import refuse_calls
from lossweave.staged.adapter import Adapter, State, Targets
from lossweave.staged.proposal_file import ProposalFile
from lossweave.staged.record import StageRecord, TrainingRecord
from lossweave.staged.stages import Stage
from lossweave.staged.training import StagedTraining
from lossweave.utils.distributed import gather_objects, world_size

__all__ = ["StagedAdapter", "train_stages"]

_LOGGER = logging.getLogger("detectron2.lossweave")


class StagedAdapter(Adapter):
    """How Detectron2 trains a stage, makes proposals and evaluates a detector.

    In a config::

        schedule = dict(
            type='four_step',                       # or 'joint', or 'stages' with a list of them
            rpn=dict(iterations=80000, batch_size=1, lr=1e-3, drops=[60000]),
            rcnn=dict(iterations=40000, batch_size=2, lr=1e-3, drops=[30000]),
            joint=dict(iterations=70000, batch_size=2, lr=1e-3, drops=[50000]))
        proposals = dict(max_per_img=2000)          # what is missing is the paper's
        evaluation = dict(stages=True, recall=[100, 300, 1000])

    Parts are ``backbone`` (with the feature pyramid, which is inside it), ``rpn_head`` (the
    ``proposal_generator``) and ``roi_head`` (the ``roi_heads``). The rest of the config is that
    of the detector's ordinary training; a combiner in it works on each stage's own terms, and
    starts anew with the stage. The learning rate follows the stage's budget. The evaluated data
    are ``dataloader.test``; its evaluator may be COCO's or VOC's, and the recall of a stage that
    has an RPN alone is counted without it. The seed is ``train.seed``.

    Args:
        cfg: the config, with ``train.output_dir``.

    Raises:
        LossweaveError: a wrong schedule or config, before anything is trained.
    """

    framework = "detectron2"
    weights_key = "model"
    modules = MODULES

    def __init__(self, cfg: Any, config: str = "") -> None:
        self.cfg = copy.deepcopy(cfg)  # whatever is done to that one, here nothing changes
        self.plan = plan_of(self.cfg)
        self.work_dir = Path(cfg.train.output_dir)
        self.seed = training_seed(self.cfg)
        self._config = config
        self._test: dict[str, Any] | None = None

    # docstrings of what follows are the protocol's

    def check(self) -> None:
        check_data(self.cfg, self.plan)
        check_losses(self.cfg, self.plan.schedule)

    def settings(self) -> dict[str, Any]:
        return deciding_of(self.cfg, self.plan.split)

    def config_name(self) -> str:
        return self._config

    def dump_config(self) -> None:
        LazyConfig.save(self.cfg, str(self.work_dir / "config.yaml"))

    def log(self, message: str) -> None:
        _LOGGER.info("%s", message)

    def init_weights(self, seed: int, fresh: bool) -> tuple[State, torch.nn.Module]:
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        model = instantiate(detector_of(self.cfg))
        check_detector(model)
        self._test = rpn_settings(model.proposal_generator)
        drawn = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        if self.cfg.train.init_checkpoint:
            DetectionCheckpointer(model).load(self.cfg.train.init_checkpoint)
        state = dict(model.state_dict())
        if fresh:  # what is pretrained stays, but heads are new whatever the checkpoint has
            heads = tuple(f"{module}." for module in MODULES.values())
            state = {n: drawn[n] if n.startswith(heads) else state[n] for n in state}
        return state, model

    def fit(
        self, stage: Stage, start: Path, proposals: Path | None, seed: int, record: StageRecord
    ) -> tuple[State, dict[str, Any]]:
        count = self.plan.proposals["max_per_img"]
        cfg = stage_config(self.cfg, stage, start, proposals, count, seed)
        size = cfg.dataloader.train.total_batch_size // world_size()
        seen = StageRecordHook(record, size, int(cfg.train.log_period))
        begun = newest_whole(start.parent, self.log)
        if begun is not None:
            refuse_calls(begun)
        trainer = train_lazy(
            cfg,
            "auto" if begun else None,
            measuring=[seen, FrozenHook(stage.name)],
            last=[StageClockHook(seen)],
        )
        if any(isinstance(hook, SaveOnInterruptHook) and hook.asked for hook in trainer._hooks):
            raise KeyboardInterrupt  # in the last iteration: the stage is through, not the training
        return unwrapped(trainer.model).state_dict(), {"seed": self.seed}

    def proposers(self, split: str) -> Any:
        return {
            "model": described(detector_of(self.cfg)),
            "pipelines": described(self.cfg.dataloader.test.mapper),
        }

    def make_proposals(
        self, stage: Stage, weights: State, split: str, targets: Targets, key: str
    ) -> dict[str, ProposalFile]:
        test = self.cfg.dataloader.test
        model = instantiate(stage_model(self.cfg, stage)).to(self.cfg.train.device)
        model.load_state_dict(weights, strict=False)
        return proposal_pass(
            model,
            entries_of(self.cfg, split),
            instantiate(test.mapper),
            targets,
            key,
            label=f"{split} proposals of {stage.name}",
            batch_size=self.plan.proposal_batch_size or 1,
            num_workers=test.get("num_workers", 0),
        )

    def ground_truth(self, split: str) -> dict[str, np.ndarray]:
        return ground_truth_of(entries_of(self.cfg, split))

    def test_settings(self) -> dict[str, Any]:
        if self._test is None:
            self.init_weights(self.seed, fresh=False)
        assert self._test is not None
        return self._test

    def evaluate(
        self, stage: Stage | None, checkpoint: Path, proposals: Path | None, folder: Path
    ) -> dict[str, float]:
        count = self.test_settings()["max_per_img"]
        cfg = evaluation_config(self.cfg, stage, proposals, count, folder)
        model = instantiate(cfg.model).to(self.cfg.train.device)
        DetectionCheckpointer(model).load(str(checkpoint))
        # Every process has its share of the data; the first one has the metrics.
        found = gather_objects(evaluate_lazy(cfg, model.eval()))[0]
        boxes = found.get("bbox", {})
        return {name: float(boxes[name]) / 100 for name in ("AP", "AP50") if name in boxes}


def train_stages(cfg: Any, resume: str | None, config: str = "") -> TrainingRecord:
    """Train a LazyConfig with a ``schedule``.

    Args:
        cfg: the config.
        resume: None, or 'auto' to go on where the output directory stands.
        config: the config's name, for the record.

    Raises:
        LossweaveError: ``resume`` is a checkpoint, or whatever is wrong with the config.
    """
    if resume not in (None, "auto"):
        raise LossweaveError(
            "a staged training resumes where its work directory stands; --resume takes no "
            "checkpoint here"
        )
    return StagedTraining(StagedAdapter(cfg, config)).train(resume is not None)
