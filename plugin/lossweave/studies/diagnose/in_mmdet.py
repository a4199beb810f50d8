"""A watched training in MMDetection: the plain sum's, with two hooks of MMEngine's kind."""

from __future__ import annotations

import logging
import warnings
from typing import Any

from mmengine.hooks import Hook
from tqdm import tqdm

from lossweave.errors import LossweaveError, one_line, wrong_input
from lossweave.host.interrupt import Interrupt
from lossweave.mmdet.configs import check_config, load_config, with_combiner
from lossweave.studies.diagnose.asked import Asked
from lossweave.studies.diagnose.session import Enough, Session, check_fits, quiet
from lossweave.studies.ledger.identity import config_hash
from lossweave.studies.runs.console import StudyRunner
from lossweave.studies.runs.training import parsed_options

__all__ = ["LookHook", "StopHook", "identity", "train"]


class LookHook(Hook):
    """Looks at the updates that the session asks for, and logs what it sees.

    Args:
        session: whose training it is.
    """

    priority = "NORMAL"  # after the combiner's hook, which tells the iteration, before the logger

    def __init__(self, session: Session) -> None:
        self.session = session

    def before_train(self, runner: Any) -> None:
        """Begin to watch."""
        wrapper = runner.optim_wrapper
        scaled = hasattr(wrapper, "loss_scaler")
        self.session.begin(runner.model, [wrapper], runner.max_iters, scaled)

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Say which iteration comes."""
        self.session.before()

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Log what was seen."""
        for name, value in self.session.after().items():
            runner.message_hub.update_scalar(f"train/{name}", value)


class StopHook(Hook):
    """Ends the training when it is enough, or when somebody asks to stop.

    Args:
        session: whose training it is.
        interrupt: takes Ctrl-C.
    """

    priority = "LOWEST"  # after everything that belongs to the iteration

    def __init__(self, session: Session, interrupt: Interrupt) -> None:
        self.session, self.interrupt = session, interrupt

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """End it."""
        if self.interrupt.asked:
            raise KeyboardInterrupt
        self.session.stop_if_done()


def identity(asked: Asked) -> str:
    """A hash of the resolved config.

    Raises:
        LossweaveError: there is no such config, or it has a wrong value.
    """
    return config_hash(_config(asked, None).to_dict())


def _config(asked: Asked, checkpoint: str | None) -> Any:
    """The config with the plain sum, without what only evaluates and saves."""
    with wrong_input(asked.config):
        cfg = load_config(asked.config, parsed_options(asked.options))
        check_config(cfg)
        if "runner_type" in cfg:
            raise LossweaveError(
                f"{asked.config} trains in stages; name a config of joint training"
            )
        with_combiner(cfg, "Sum", {}, asked.terms)
    for split in ("val", "test"):
        for part in ("cfg", "dataloader", "evaluator"):
            cfg[f"{split}_{part}"] = None
    cfg.setdefault("default_hooks", {}).checkpoint = None
    cfg.randomness = {**cfg.get("randomness", {}), "seed": asked.seed}
    cfg.work_dir = str(asked.folder)
    cfg.launcher, cfg.resume = "none", False
    if checkpoint is not None:
        cfg.load_from = checkpoint
    return cfg


def train(asked: Asked, checkpoint: str | None, session: Session) -> None:
    """Train as the stock tool does, for as long as the session wants.

    Args:
        asked: the diagnosis.
        checkpoint: to begin from; None leaves that to the config.
        session: looks at it.

    Raises:
        LossweaveError: wrong input.
        KeyboardInterrupt: somebody asked to stop.
    """
    cfg = _config(asked, checkpoint)
    with wrong_input(asked.config):
        warnings.filterwarnings("ignore", module="mmengine")
        runner = StudyRunner.from_cfg(cfg)
        quiet([runner.logger], logging.ERROR)  # it warns of every frozen parameter
        if checkpoint is not None:
            check_fits(runner.model, checkpoint)
    interrupt = Interrupt(tqdm.write)
    runner.register_hook(LookHook(session))
    runner.register_hook(StopHook(session, interrupt))
    try:
        with interrupt.taken():
            runner.train()
    except Enough:
        runner.call_hook("after_train")
    except LossweaveError:
        raise
    except Exception as error:
        if session.iterations:
            raise
        raise LossweaveError(f"{asked.config}: {one_line(error)}") from error
    finally:
        session.end()
