"""What ``tools/train.py`` and ``tools/test.py`` do with Detectron2's configs."""

from types import SimpleNamespace
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine import default_setup, launch

from lossweave.detectron2.configs import (
    check_config,
    content_of,
    default_work_dir,
    load_config,
    with_combiner,
    with_exact_resume,
)
from lossweave.detectron2.lazy import test_lazy, train_lazy
from lossweave.detectron2.run import steady_scripts
from lossweave.detectron2.staged.configs import has_schedule, plan_of, training_seed
from lossweave.detectron2.staged.training import train_stages
from lossweave.detectron2.staged.yaml import lazy_of
from lossweave.detectron2.yaml import test_yaml, train_yaml
from lossweave.errors import LossweaveError, wrong_input
from lossweave.host.checkpoints import contents
from lossweave.host.configs import claim_work_dir
from lossweave.host.lock import locked, make_work_dir
from lossweave.host.options import Common, TestOptions, TrainOptions

__all__ = ["test", "train"]


def train(options: TrainOptions) -> Any:
    """Train as the stock tools do, with the losses combined.

    Args:
        options: what is asked.

    Returns:
        The trainer, after training; the record of a training in stages; None where several
        processes trained.

    Raises:
        LossweaveError: wrong input, before anything is trained.
    """
    with wrong_input(options.config):
        _refuse(options, auto_scale_lr="set SOLVER.REFERENCE_WORLD_SIZE in the config")
        cfg = _training_config(options)
        if has_schedule(cfg) and isinstance(cfg, CfgNode):
            cfg = lazy_of(cfg)
    work_dir = _output_dir(cfg)
    with locked(work_dir):
        if has_schedule(cfg):
            with wrong_input(options.config):
                plan_of(cfg)  # before anything is written
                training_seed(cfg)
            return _launched(options.num_gpus, _train_staged, cfg, options.resume, options.config)
        if options.resume not in (None, "auto"):
            contents(options.resume)
        claim_work_dir(work_dir, content_of(cfg), options.resume is not None)
        return _launched(options.num_gpus, _train, cfg, options.resume)


def _training_config(options: TrainOptions) -> Any:
    """The config with all that the options change."""
    cfg = load_config(options.config, options.cfg_options)
    check_config(cfg)
    with_combiner(cfg, options.combiner, options.combiner_options, options.terms)
    if options.exact_resume:
        with_exact_resume(cfg)
    _place(cfg, options)
    if options.amp:
        (cfg.SOLVER.AMP if isinstance(cfg, CfgNode) else cfg.train.amp).update(
            {"ENABLED" if isinstance(cfg, CfgNode) else "enabled": True}
        )
    _refuse_amp_without_gpu(cfg)
    return cfg


def test(options: TestOptions) -> dict[str, Any]:
    """Evaluate as the stock tools do.

    Args:
        options: what is asked.

    Returns:
        The metrics by name; empty where several processes evaluated.

    Raises:
        LossweaveError: wrong input.
    """
    written = "Detectron2's evaluators write the detections to WORK_DIR/inference"
    with wrong_input(options.config):
        _refuse(options, out=written, show=written, show_dir=written)
        cfg = load_config(options.config, options.cfg_options)
        if options.tta and not isinstance(cfg, CfgNode):
            raise LossweaveError(
                "--tta takes a yaml config: Detectron2's augmentation reads TEST.AUG"
            )
        with_combiner(cfg)
        _place(cfg, options)
        make_work_dir(_output_dir(cfg))
        return _launched(options.num_gpus, _test, cfg, options.checkpoint, options.tta) or {}


def _train(cfg: Any, resume: str | None) -> Any:
    _set_up(cfg, testing=False)
    steady_scripts()
    run = train_yaml if isinstance(cfg, CfgNode) else train_lazy
    return run(cfg, resume)


def _train_staged(cfg: Any, resume: str | None, config: str) -> Any:
    _set_up(cfg, testing=False)
    steady_scripts()
    return train_stages(cfg, resume, config)


def _test(cfg: Any, checkpoint: str, tta: bool) -> dict[str, Any]:
    _set_up(cfg, testing=True)
    if isinstance(cfg, CfgNode):
        return test_yaml(cfg, checkpoint, tta)
    return test_lazy(cfg, checkpoint)


def _set_up(cfg: Any, testing: bool) -> None:
    with wrong_input():
        default_setup(cfg, SimpleNamespace(config_file="", eval_only=testing))


def _launched(gpus: int, run: Any, *args: Any) -> Any:
    if gpus == 1:
        return run(*args)
    if gpus > torch.cuda.device_count():
        raise LossweaveError(f"--num-gpus={gpus}: this machine has {torch.cuda.device_count()}")
    return launch(run, gpus, dist_url="auto", args=args)


def _refuse(options: Common, **instead: str) -> None:
    if options.launcher != "none":
        raise LossweaveError("--launcher is MMDetection's; Detectron2 takes --num-gpus N")
    for name, words in instead.items():
        if getattr(options, name):
            raise LossweaveError(f"--{name.replace('_', '-')} is MMDetection's; {words}")


def _refuse_amp_without_gpu(cfg: Any) -> None:
    enabled = cfg.SOLVER.AMP.ENABLED if isinstance(cfg, CfgNode) else cfg.train.amp.enabled
    if enabled and not torch.cuda.is_available():
        raise LossweaveError("mixed precision (--amp): Detectron2's AMPTrainer needs a GPU")


def _place(cfg: Any, options: Common) -> None:
    """Set the work directory, and the CPU where there is no GPU."""
    work_dir = options.work_dir or default_work_dir(cfg, options.config)
    cpu = not torch.cuda.is_available()
    if isinstance(cfg, CfgNode):
        cfg.OUTPUT_DIR = work_dir
        cfg.MODEL.DEVICE = "cpu" if cpu else cfg.MODEL.DEVICE
    else:
        cfg.train.output_dir = work_dir
        cfg.train.device = "cpu" if cpu else cfg.train.device


def _output_dir(cfg: Any) -> str:
    return cfg.OUTPUT_DIR if isinstance(cfg, CfgNode) else cfg.train.output_dir
