"""What ``tools/train.py`` and ``tools/test.py`` do with Detectron2's configs."""

import argparse
from types import SimpleNamespace
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine import default_setup, launch

from lossweave.cli.main import parse_options, parse_terms
from lossweave.detectron2 import lazy as trainer
from lossweave.detectron2.configs import (
    default_work_dir,
    load_config,
    refuse_other_checkpoints,
    with_combiner,
    with_exact_resume,
)
from lossweave.detectron2.staged.configs import has_schedule
from lossweave.detectron2.staged.training import train_stages
from lossweave.errors import LossweaveError

__all__ = ["test", "train"]


def train(args: argparse.Namespace) -> Any:
    """Train as the stock tools do, with the losses combined.

    Args:
        args: what :func:`lossweave.cli.main.train_parser` parsed.

    Returns:
        The trainer, after training; the record of a training in stages; None where several
        processes trained.

    Raises:
        LossweaveError: wrong input, before anything is trained.
    """
    _refuse(args, auto_scale_lr="set SOLVER.REFERENCE_WORLD_SIZE in the config")
    cfg = load_config(args.config, args.cfg_options or ())
    options = parse_options("--combiner-options", args.combiner_options)
    with_combiner(cfg, args.combiner, options, parse_terms(args.terms))
    if args.exact_resume:
        with_exact_resume(cfg)
    _place(cfg, args)
    if args.amp:
        (cfg.SOLVER.AMP if isinstance(cfg, CfgNode) else cfg.train.amp).update(
            {"ENABLED" if isinstance(cfg, CfgNode) else "enabled": True}
        )
    _refuse_amp_without_gpu(cfg)
    if has_schedule(cfg):
        if args.num_gpus != 1:
            raise LossweaveError("training in stages under Detectron2 takes one process")
        _set_up(cfg, testing=False)
        trainer.steady_scripts()
        return train_stages(cfg, args.resume, args.config)
    if not args.resume:
        refuse_other_checkpoints(cfg, _output_dir(cfg))
    return _launched(args.num_gpus, _train, cfg, args.resume)


def test(args: argparse.Namespace) -> dict[str, Any]:
    """Evaluate as the stock tools do.

    Args:
        args: what :func:`lossweave.cli.main.test_parser` parsed.

    Returns:
        The metrics by name; empty where several processes evaluated.

    Raises:
        LossweaveError: wrong input.
    """
    written = "Detectron2's evaluators write the detections to WORK_DIR/inference"
    _refuse(args, out=written, show=written, show_dir=written)
    cfg = load_config(args.config, args.cfg_options or ())
    if args.tta and not isinstance(cfg, CfgNode):
        raise LossweaveError("--tta takes a yaml config: Detectron2's augmentation reads TEST.AUG")
    with_combiner(cfg)
    _place(cfg, args)
    return _launched(args.num_gpus, _test, cfg, args.checkpoint, args.tta) or {}


def _train(cfg: Any, resume: str | None) -> Any:
    _set_up(cfg, testing=False)
    trainer.steady_scripts()
    run = trainer.train_yaml if isinstance(cfg, CfgNode) else trainer.train_lazy
    return run(cfg, resume)


def _test(cfg: Any, checkpoint: str, tta: bool) -> dict[str, Any]:
    _set_up(cfg, testing=True)
    if isinstance(cfg, CfgNode):
        return trainer.test_yaml(cfg, checkpoint, tta)
    return trainer.test_lazy(cfg, checkpoint)


def _set_up(cfg: Any, testing: bool) -> None:
    default_setup(cfg, SimpleNamespace(config_file="", eval_only=testing))


def _launched(gpus: int, run: Any, *args: Any) -> Any:
    if gpus == 1:
        return run(*args)
    if gpus < 1 or gpus > torch.cuda.device_count():
        raise LossweaveError(f"--num-gpus={gpus}: this machine has {torch.cuda.device_count()}")
    return launch(run, gpus, dist_url="auto", args=args)


def _refuse(args: argparse.Namespace, **instead: str) -> None:
    if args.launcher != "none":
        raise LossweaveError("--launcher is MMDetection's; Detectron2 takes --num-gpus N")
    for name, words in instead.items():
        if getattr(args, name):
            raise LossweaveError(f"--{name.replace('_', '-')} is MMDetection's; {words}")


def _refuse_amp_without_gpu(cfg: Any) -> None:
    enabled = cfg.SOLVER.AMP.ENABLED if isinstance(cfg, CfgNode) else cfg.train.amp.enabled
    if enabled and not torch.cuda.is_available():
        raise LossweaveError("mixed precision (--amp): Detectron2's AMPTrainer needs a GPU")


def _place(cfg: Any, args: argparse.Namespace) -> None:
    """Set the work directory, and the CPU where there is no GPU."""
    work_dir = args.work_dir or default_work_dir(cfg, args.config)
    cpu = not torch.cuda.is_available()
    if isinstance(cfg, CfgNode):
        cfg.OUTPUT_DIR = work_dir
        cfg.MODEL.DEVICE = "cpu" if cpu else cfg.MODEL.DEVICE
    else:
        cfg.train.output_dir = work_dir
        cfg.train.device = "cpu" if cpu else cfg.train.device


def _output_dir(cfg: Any) -> str:
    return cfg.OUTPUT_DIR if isinstance(cfg, CfgNode) else cfg.train.output_dir
