"""Training in stages under MMDetection: ``runner_type='lossweave.StagedRunner'``.

Every stage is an ordinary Runner in a folder of its own. What is done is known from the files
that it has left (see :mod:`lossweave.staged.training`), so a training goes on wherever it was
stopped, to the same weights bit for bit (on a GPU as far as its kernels repeat;
``randomness=dict(deterministic=True)`` asks for it).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mmengine
import numpy as np
import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import init_dist, is_distributed
from mmengine.logging import MMLogger, print_log
from mmengine.model import is_model_wrapper
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner, load_checkpoint, set_random_seed

from lossweave.errors import LossweaveError, one_line, wrong_input
from lossweave.host.checkpoints import newest_whole
from lossweave.host.unpickling import refuse_calls
from lossweave.mmdet.interrupt import has_trained
from lossweave.mmdet.staged.checks import check_data, check_losses
from lossweave.mmdet.staged.configs import (
    deciding_of,
    evaluation_config,
    pipelines_of,
    plain_config,
    plan_of,
    proposal_loader,
    stage_config,
    stage_model,
    training_seed,
)
from lossweave.mmdet.staged.hooks import StageClockHook, StageRecordHook
from lossweave.mmdet.staged.proposals import ground_truth_of, proposal_pass
from lossweave.registry import RUNNERS
from lossweave.staged.adapter import Adapter, State, Targets
from lossweave.staged.proposal_file import ProposalFile
from lossweave.staged.record import StageRecord, TrainingRecord
from lossweave.staged.stages import Stage
from lossweave.staged.training import StagedTraining
from lossweave.utils.described import described

__all__ = ["StagedAdapter", "StagedRunner"]

#: Metrics of the record, and what MMDetection's evaluators call them.
_METRICS = {
    "AP": ("coco/bbox_mAP",),
    "AP50": ("coco/bbox_mAP_50", "pascal_voc/AP50"),
}


class StagedAdapter(Adapter):
    """How MMDetection trains a stage, makes proposals and evaluates a detector.

    Args:
        cfg: the config of the whole training, with a ``work_dir``.

    Raises:
        LossweaveError: a wrong schedule or config, before anything is trained.
    """

    framework = "mmdet"
    weights_key = "state_dict"
    modules: Mapping[str, str] = {}

    def __init__(self, cfg: Config) -> None:
        init_default_scope(cfg.get("default_scope", "mmdet"))
        self.cfg = copy.deepcopy(cfg)  # whatever is done to that one, here nothing changes
        self.plan = plan_of(self.cfg)
        self.work_dir = Path(cfg.work_dir)
        self.seed = training_seed(self.cfg)

    # docstrings of what follows are the protocol's

    def check(self) -> None:
        check_data(self.cfg, self.plan)
        check_losses(self.cfg, self.plan.schedule)

    def settings(self) -> dict[str, Any]:
        return described(deciding_of(self.cfg, self.plan.split))

    def config_name(self) -> str:
        if not self.cfg.filename:
            return ""
        path = Path(self.cfg.filename).resolve()
        here = Path.cwd()
        return str(path.relative_to(here)) if path.is_relative_to(here) else path.name

    def dump_config(self) -> None:
        name = Path(self.cfg.filename).name if self.cfg.filename else "config.py"
        self.cfg.dump(str(self.work_dir / name))

    def log(self, message: str) -> None:
        print_log(message, "current")

    def init_weights(self, seed: int, fresh: bool) -> tuple[State, torch.nn.Module]:
        set_random_seed(seed)
        model = MODELS.build(copy.deepcopy(self.cfg.model))
        with _quietly():  # MMEngine says a line per parameter, to the terminal if no file is open
            model.init_weights()
        if self.cfg.get("load_from") and not fresh:
            load_checkpoint(model, self.cfg.load_from, map_location="cpu")
        return model.state_dict(), model

    def fit(
        self, stage: Stage, start: Path, proposals: Path | None, seed: int, record: StageRecord
    ) -> tuple[State, dict[str, Any]]:
        cfg = stage_config(self.cfg, stage, proposals, seed)
        begun = newest_whole(cfg.work_dir, self.log)
        if begun is not None:
            refuse_calls(begun)
        cfg.resume, cfg.load_from = begun is not None, str(begun or start)
        with wrong_input(f"stage {stage.name!r}"):
            runner = Runner.from_cfg(cfg)
        hook = StageRecordHook(record)
        runner.register_hook(hook)
        runner.register_hook(StageClockHook(hook))
        try:
            runner.train()
        except BaseException as error:
            hook.measure.write()
            ours = isinstance(error, LossweaveError) or not isinstance(error, Exception)
            if ours or has_trained(runner):
                raise
            raise LossweaveError(f"stage {stage.name!r}: {one_line(error)}") from error
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        return model.state_dict(), {
            "dataset_meta": getattr(runner.train_dataloader.dataset, "metainfo", {}),
            "cfg": plain_config(self.cfg, self.work_dir, "unified").pretty_text,
            "seed": self.seed,
            "mmengine_version": mmengine.__version__,
        }

    def proposers(self, split: str) -> Any:
        return {
            "model": described(self.cfg.model),
            "pipelines": pipelines_of(proposal_loader(self.cfg, split).dataset),
        }

    def make_proposals(
        self, stage: Stage, weights: State, split: str, targets: Targets, key: str
    ) -> dict[str, ProposalFile]:
        model = MODELS.build(stage_model(self.cfg, stage))
        model.load_state_dict(weights, strict=False)
        loader = proposal_loader(self.cfg, split, self.plan.proposal_batch_size)
        label = f"{split} proposals of {stage.name}"
        return proposal_pass(model.to(get_device()).eval(), loader, targets, key, label)

    def ground_truth(self, split: str) -> dict[str, np.ndarray]:
        loader = proposal_loader(self.cfg, split, self.plan.proposal_batch_size)
        return ground_truth_of(Runner.build_dataloader(loader, seed=0).dataset)

    def test_settings(self) -> dict[str, Any]:
        return self.cfg.model.test_cfg.rpn.to_dict()

    def evaluate(
        self, stage: Stage | None, checkpoint: Path, proposals: Path | None, folder: Path
    ) -> dict[str, float]:
        cfg = evaluation_config(self.cfg, stage, self.plan.split, checkpoint, proposals, folder)
        runner = Runner.from_cfg(cfg)
        return _metrics(runner.val() if self.plan.split == "val" else runner.test())


# A config that names it 'AlternatingRunner', as it was called, means the same.
@RUNNERS.register_module(name=["StagedRunner", "AlternatingRunner"])
class StagedRunner:
    """Trains a detector in stages; validates and tests it as an ordinary Runner does.

    In a config::

        runner_type = 'lossweave.StagedRunner'
        schedule = dict(
            type='four_step',                       # or 'joint', or 'stages' with a list of them
            rpn=dict(iterations=80000, batch_size=1, lr=1e-3, drops=[60000]),
            rcnn=dict(iterations=40000, batch_size=2, lr=1e-3, drops=[30000]),
            joint=dict(iterations=70000, batch_size=2, lr=1e-3, drops=[50000]))
        proposals = dict(max_per_img=2000)          # what is missing is the paper's
        evaluation = dict(split='val', stages=True, recall=[100, 300, 1000])

    The rest of the config is that of the detector's ordinary training; a combiner in it works on
    each stage's own terms, and starts anew with the stage. Validation and testing with such a
    config are the ordinary ones of the detector. The seed is ``randomness.seed``, 0 without one:
    it decides the first weights, which all stages and joint training share, and with the number
    of the stage the order of its data and its sampling.

    Args:
        cfg: the config, with a ``work_dir``.

    Raises:
        LossweaveError: a wrong schedule or config, before anything is trained.
    """

    def __init__(self, cfg: Config) -> None:
        self.cfg = cfg
        self._adapter = StagedAdapter(cfg)
        self._plain: Runner | None = None

    @classmethod
    def from_cfg(cls, cfg: Config) -> StagedRunner:
        """What MMEngine's registry calls."""
        return cls(cfg)

    def plain_runner(self) -> Runner:
        """An ordinary Runner of the whole detector, for validation and tests."""
        if self._plain is None:
            made = plain_config(self.cfg, self._adapter.work_dir, "plain")
            made.load_from = self.cfg.get("load_from")
            made.train_cfg = made.train_dataloader = made.optim_wrapper = None
            made.param_scheduler = made.auto_scale_lr = None
            self._plain = Runner.from_cfg(made)
        return self._plain

    def test(self) -> dict[str, float]:
        """Test the whole detector from ``load_from``."""
        return self.plain_runner().test()

    def val(self) -> dict[str, float]:
        """Validate the whole detector from ``load_from``."""
        return self.plain_runner().val()

    @property
    def test_evaluator(self) -> Any:
        """The ordinary Runner's."""
        return self.plain_runner().test_evaluator

    def train(self, resume: bool | None = None) -> TrainingRecord:
        """Train all stages, from where the work directory stands; the record.

        Args:
            resume: whether a training that the work directory holds is gone on with; None means
                what the config says.

        Raises:
            LossweaveError: the directory holds another training, a stage changed what it
                freezes, or a proposal file is stale or damaged.
        """
        cfg = self.cfg
        if cfg.get("launcher", "none") != "none" and not is_distributed():
            init_dist(cfg.launcher, **(cfg.get("env_cfg") or {}).get("dist_cfg", {}))
        if cfg.get("resume") and cfg.get("load_from"):
            raise LossweaveError(
                "a staged training resumes where its work directory stands; --resume takes no "
                "checkpoint here"
            )
        resume = bool(cfg.get("resume")) if resume is None else resume
        return StagedTraining(self._adapter).train(resume)


@contextmanager
def _quietly() -> Iterator[None]:
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel("WARNING")
    try:
        yield
    finally:
        logger.setLevel(level)


def _metrics(found: Mapping[str, float]) -> dict[str, float]:
    return {
        name: float(found[key]) for name, keys in _METRICS.items() for key in keys if key in found
    }
