"""A watched training in Detectron2: the plain sum's, with two hooks of its own kind."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine import HookBase, default_setup
from detectron2.utils.events import get_event_storage

from lossweave.detectron2.configs import check_config, content_of, load_config, with_combiner
from lossweave.detectron2.lazy import train_lazy
from lossweave.detectron2.run import steady_scripts
from lossweave.detectron2.staged.configs import has_schedule
from lossweave.detectron2.yaml import train_yaml
from lossweave.errors import LossweaveError, wrong_input
from lossweave.studies.diagnose.asked import Asked
from lossweave.studies.diagnose.session import Enough, Session, check_fits, quiet
from lossweave.studies.ledger.result import hashed

__all__ = ["LookHook", "StopHook", "identity", "train"]

#: Iterations that no training reaches.
_NEVER = 10**9


class LookHook(HookBase):
    """Looks at the updates that the session asks for, and logs what it sees.

    Args:
        session: whose training it is.
        checkpoint: that the training begins from.
    """

    def __init__(self, session: Session, checkpoint: str | None) -> None:
        self.session, self.checkpoint = session, checkpoint

    def before_train(self) -> None:
        """Begin to watch."""
        inner: Any = getattr(self.trainer, "_trainer", self.trainer)
        if self.checkpoint is not None:
            check_fits(inner.model, self.checkpoint)
        scaled = hasattr(inner, "grad_scaler")
        self.session.begin(inner.model, [inner.optimizer], self.trainer.max_iter, scaled)

    def before_step(self) -> None:
        """Say which iteration comes."""
        self.session.before()

    def after_step(self) -> None:
        """Log what was seen."""
        if found := self.session.after():
            get_event_storage().put_scalars(smoothing_hint=False, **found)


class StopHook(HookBase):
    """Ends the training when it is enough.

    Args:
        session: whose training it is.
    """

    def __init__(self, session: Session) -> None:
        self.session = session

    def after_step(self) -> None:
        """End it."""
        self.session.stop_if_done()


def identity(asked: Asked) -> str:
    """A hash of the resolved config.

    Raises:
        LossweaveError: there is no such config, or it has a wrong value.
    """
    return hashed(content_of(_config(asked)))


def _config(asked: Asked) -> Any:
    """The config with the plain sum."""
    with wrong_input(asked.config):
        cfg = load_config(asked.config, asked.options)
        check_config(cfg)
        if has_schedule(cfg):
            raise LossweaveError(
                f"{asked.config} trains in stages; name a config of joint training"
            )
        return with_combiner(cfg, "Sum", {}, asked.terms)


def _prepared(asked: Asked, checkpoint: str | None) -> Any:
    """The config without what only evaluates and saves."""
    cfg, cpu = _config(asked), not torch.cuda.is_available()
    if isinstance(cfg, CfgNode):
        cfg.OUTPUT_DIR, cfg.SEED = str(asked.folder), asked.seed
        cfg.MODEL.DEVICE = "cpu" if cpu else cfg.MODEL.DEVICE
        cfg.MODEL.WEIGHTS = checkpoint or cfg.MODEL.WEIGHTS
        cfg.DATASETS.TEST, cfg.TEST.EVAL_PERIOD = (), 0
        cfg.SOLVER.CHECKPOINT_PERIOD = _NEVER
        return cfg
    cfg.train.output_dir, cfg.train.seed = str(asked.folder), asked.seed
    cfg.train.device = "cpu" if cpu else cfg.train.device
    cfg.train.init_checkpoint = checkpoint or cfg.train.init_checkpoint
    cfg.train.eval_period, cfg.train.checkpointer.period = 0, _NEVER
    cfg.dataloader.pop("evaluator", None)
    return cfg


def train(asked: Asked, checkpoint: str | None, session: Session) -> None:
    """Train as the stock tools do, for as long as the session wants.

    Args:
        asked: the diagnosis.
        checkpoint: to begin from; None leaves that to the config.
        session: looks at it.

    Raises:
        LossweaveError: wrong input.
        KeyboardInterrupt: somebody asked to stop.
    """
    cfg = _prepared(asked, checkpoint)
    with wrong_input():
        default_setup(cfg, SimpleNamespace(config_file="", eval_only=False))
    quiet([logging.getLogger(name) for name in ("detectron2", "fvcore", "lossweave")])
    steady_scripts()
    measuring, last = [LookHook(session, checkpoint)], [StopHook(session)]
    try:
        if isinstance(cfg, CfgNode):
            train_yaml(cfg, None, measuring, last)
        else:
            train_lazy(cfg, None, measuring, last)
    except Enough:
        pass
    finally:
        session.end()
