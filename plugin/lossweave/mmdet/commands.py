"""What ``tools/train.py`` and ``tools/test.py`` do with MMDetection's configs."""

import argparse
import os
from collections.abc import Sequence
from typing import Any

from mmengine.config import ConfigDict, DictAction
from mmengine.registry import RUNNERS, init_default_scope
from mmengine.runner import Runner

from lossweave.cli.main import parse_options, parse_terms
from lossweave.errors import LossweaveError
from lossweave.mmdet.configs import (
    default_work_dir,
    load_config,
    refuse_other_checkpoints,
    with_combiner,
    with_exact_resume,
)

__all__ = ["test", "train"]


def _cfg_options(words: Sequence[str] | None) -> dict[str, Any]:
    """Overrides as MMEngine reads them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--cfg-options", nargs="+", action=DictAction)
    bad = [word for word in words or () if "=" not in word]
    if bad:
        raise LossweaveError(f"--cfg-options: {bad[0]!r} should be KEY=VALUE")
    return parser.parse_args(["--cfg-options", *words]).cfg_options if words else {}


def train(args: argparse.Namespace) -> Runner:
    """Train as the stock tool does, with the losses combined.

    Args:
        args: what :func:`lossweave.cli.main.train_parser` parsed.

    Returns:
        The runner, after training.

    Raises:
        LossweaveError: wrong input, before anything is trained.
    """
    _check(args)
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    cfg = load_config(args.config, _cfg_options(args.cfg_options))
    options = parse_options("--combiner-options", args.combiner_options)
    with_combiner(cfg, args.combiner, options, parse_terms(args.terms))
    if args.exact_resume:
        with_exact_resume(cfg)
    cfg.launcher = args.launcher
    cfg.work_dir = args.work_dir or cfg.get("work_dir") or default_work_dir(cfg, args.config)
    if args.amp:
        cfg.optim_wrapper.type = "AmpOptimWrapper"
        cfg.optim_wrapper.loss_scale = "dynamic"
    if args.auto_scale_lr:
        if "base_batch_size" not in cfg.get("auto_scale_lr", {}):
            raise LossweaveError(
                "--auto-scale-lr needs auto_scale_lr.base_batch_size in the config"
            )
        cfg.auto_scale_lr.enable = True
    if args.resume:
        cfg.resume = True
        cfg.load_from = None if args.resume == "auto" else args.resume
    elif not cfg.get("resume"):
        refuse_other_checkpoints(cfg, cfg.work_dir)
    cfg.custom_hooks = [
        *(cfg.get("custom_hooks") or []),
        dict(type="lossweave.SaveOnInterruptHook"),
    ]
    runner = RUNNERS.build(cfg) if "runner_type" in cfg else Runner.from_cfg(cfg)
    runner.train()
    return runner


def test(args: argparse.Namespace) -> dict[str, float]:
    """Evaluate as the stock tool does.

    Args:
        args: what :func:`lossweave.cli.main.test_parser` parsed.

    Returns:
        The metrics by name.

    Raises:
        LossweaveError: wrong input.
    """
    _check(args)
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    if args.out and not args.out.endswith((".pkl", ".pickle")):
        raise LossweaveError(f"--out={args.out!r} should end in .pkl or .pickle")
    cfg = load_config(args.config, _cfg_options(args.cfg_options))
    cfg.launcher = args.launcher
    cfg.work_dir = args.work_dir or cfg.get("work_dir") or default_work_dir(cfg, args.config)
    cfg.load_from = args.checkpoint
    init_default_scope(cfg.get("default_scope", "mmdet"))
    if args.show or args.show_dir:
        hook = cfg.get("default_hooks", {}).get("visualization")
        if hook is None:
            raise LossweaveError("--show and --show-dir need default_hooks.visualization")
        hook.update(draw=True, show=args.show, wait_time=args.wait_time)
        if args.show_dir:
            hook.test_out_dir = args.show_dir
    if args.tta:
        _augment_test(cfg)
    runner = RUNNERS.build(cfg) if "runner_type" in cfg else Runner.from_cfg(cfg)
    if args.out:
        from mmdet.evaluation import DumpDetResults

        runner.test_evaluator.metrics.append(DumpDetResults(out_file_path=args.out))
    return runner.test()


def _augment_test(cfg: Any) -> None:
    """Test-time augmentation by flips, as the stock tool sets it up where a config has none."""
    if "tta_model" not in cfg:
        cfg.tta_model = dict(
            type="DetTTAModel",
            tta_cfg=dict(nms=dict(type="nms", iou_threshold=0.5), max_per_img=100),
        )
    dataset = cfg.test_dataloader.dataset
    while "pipeline" not in dataset:
        dataset = dataset.dataset
    if "tta_pipeline" not in cfg:
        cfg.tta_pipeline = [t.to_dict() for t in dataset.pipeline]
        packing = cfg.tta_pipeline[-1]
        keys = (
            "img_id",
            "img_path",
            "ori_shape",
            "img_shape",
            "scale_factor",
            "flip",
            "flip_direction",
        )
        packed = dict(packing, meta_keys=keys)
        flips = [dict(type="RandomFlip", prob=1.0), dict(type="RandomFlip", prob=0.0)]
        cfg.tta_pipeline[-1] = dict(type="TestTimeAug", transforms=[flips, [packed]])
    cfg.model = ConfigDict(**cfg.tta_model, module=cfg.model)
    dataset.pipeline = cfg.tta_pipeline


def _check(args: argparse.Namespace) -> None:
    if args.num_gpus != 1:
        raise LossweaveError(
            "--num-gpus is for Detectron2; several GPUs with MMDetection: "
            "torchrun --nproc_per_node N tools/train.py CONFIG --launcher pytorch"
        )
