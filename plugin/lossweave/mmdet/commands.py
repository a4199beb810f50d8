"""What ``tools/train.py`` and ``tools/test.py`` do with MMDetection's configs."""

import argparse
import os
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

from mmengine.config import Config, ConfigDict, DictAction
from mmengine.logging import print_log
from mmengine.registry import RUNNERS, init_default_scope
from mmengine.runner import Runner

from lossweave.errors import LossweaveError, one_line, wrong_input
from lossweave.host.checkpoints import check_resumable, contents, newest_whole
from lossweave.host.configs import claim_work_dir
from lossweave.host.lock import locked, make_work_dir
from lossweave.host.options import Common, TestOptions, TrainOptions
from lossweave.host.unpickling import refuse_calls
from lossweave.mmdet.configs import (
    check_config,
    content_of,
    default_work_dir,
    load_config,
    with_combiner,
    with_exact_resume,
    with_safe_files,
)
from lossweave.mmdet.hook import CombinerHook
from lossweave.mmdet.interrupt import SaveOnInterruptHook, has_trained

__all__ = ["test", "train"]


def _cfg_options(words: Sequence[str]) -> dict[str, Any]:
    """Overrides as MMEngine reads them.

    Raises:
        LossweaveError: it cannot read one.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--cfg-options", nargs="+", action=DictAction)
    try:
        return parser.parse_args(["--cfg-options", *words]).cfg_options if words else {}
    except AssertionError as error:  # brackets that do not match
        raise LossweaveError(f"--cfg-options: {error}") from None


def train(options: TrainOptions) -> Runner:
    """Train as the stock tool does, with the losses combined.

    Args:
        options: what is asked.

    Returns:
        The runner, after training.

    Raises:
        LossweaveError: wrong input, before anything is trained.
    """
    with wrong_input(options.config):
        _check(options)
        cfg = _training_config(options)
    # The lock and the note are the first process's; the others wait for it in the runner.
    with locked(cfg.work_dir) if _leads(options.launcher) else nullcontext():
        with wrong_input(options.config):
            _start_from(cfg, options.resume)
            if _leads(options.launcher):
                claim_work_dir(cfg.work_dir, content_of(cfg), bool(cfg.get("resume")))
            runner = RUNNERS.build(cfg) if "runner_type" in cfg else Runner.from_cfg(cfg)
        try:
            runner.train()
        except BaseException as error:
            _let_go(runner)
            ours = isinstance(error, LossweaveError) or not isinstance(error, Exception)
            if ours or has_trained(runner):
                raise
            raise LossweaveError(f"{options.config}: {one_line(error)}") from error
    return runner


def _let_go(runner: Any) -> None:
    """MMEngine calls no hook after a training that has failed; those that hold what is not the
    runner's own, signals and optimizers, give it back here."""
    for hook in getattr(runner, "hooks", ()):
        if isinstance(hook, CombinerHook | SaveOnInterruptHook):
            hook.after_train(runner)


def _training_config(options: TrainOptions) -> Config:
    """The config with all that the options change."""
    os.environ.setdefault("LOCAL_RANK", str(options.local_rank))
    cfg = load_config(options.config, _cfg_options(options.cfg_options))
    check_config(cfg)
    with_combiner(cfg, options.combiner, options.combiner_options, options.terms)
    if options.exact_resume:
        with_exact_resume(cfg)
    cfg.launcher = options.launcher
    cfg.work_dir = options.work_dir or cfg.get("work_dir") or default_work_dir(cfg, options.config)
    if options.amp:
        cfg.optim_wrapper.type = "AmpOptimWrapper"
        cfg.optim_wrapper.loss_scale = "dynamic"
    if options.auto_scale_lr:
        if "base_batch_size" not in cfg.get("auto_scale_lr", {}):
            raise LossweaveError(
                "--auto-scale-lr needs auto_scale_lr.base_batch_size in the config"
            )
        cfg.auto_scale_lr.enable = True
    with_safe_files(cfg)
    return cfg


def _start_from(cfg: Config, resume: str | None) -> None:
    """Say in the config what the runner starts from.

    Raises:
        LossweaveError: there is no such checkpoint, it is damaged, or cannot be resumed from.
    """
    if resume is None and cfg.get("resume"):
        resume = cfg.get("load_from") or "auto"
    if resume is None:
        return
    if not resume:
        raise LossweaveError("--resume '' is the name of no checkpoint")
    if "runner_type" in cfg:  # stages know where they stand
        cfg.resume, cfg.load_from = True, None if resume == "auto" else resume
        return
    found: Any = resume
    if resume == "auto":
        found = newest_whole(cfg.work_dir, print_log)
        if found is None:
            print_log(f"{cfg.work_dir} has no checkpoint: beginning anew")
            cfg.resume = False
            return
    needed = ["meta", "state_dict", "message_hub", "optimizer"]
    if resume == "auto":
        refuse_calls(found, f"where you trust it, name it: --resume {found}")
    check_resumable(found, needed + ["param_schedulers"] * bool(cfg.get("param_scheduler")))
    cfg.resume, cfg.load_from = True, str(found)


def _leads(launcher: str) -> bool:
    """Whether this process is the first, before processes know each other."""
    names = {"pytorch": "RANK", "slurm": "SLURM_PROCID", "mpi": "OMPI_COMM_WORLD_RANK"}
    name = names.get(launcher, "")
    if name and name not in os.environ:
        how = {"pytorch": "torchrun", "slurm": "srun", "mpi": "mpirun"}[launcher]
        raise LossweaveError(f"--launcher {launcher}: {name} is not set; start it with {how}")
    return os.environ.get(name, "0") == "0"


def test(options: TestOptions) -> dict[str, float]:
    """Evaluate as the stock tool does.

    Args:
        options: what is asked.

    Returns:
        The metrics by name.

    Raises:
        LossweaveError: wrong input.
    """
    with wrong_input(options.config):
        _check(options)
        contents(options.checkpoint)
        cfg = _test_config(options)
        make_work_dir(cfg.work_dir)
        runner = RUNNERS.build(cfg) if "runner_type" in cfg else Runner.from_cfg(cfg)
        if options.out:
            from mmdet.evaluation import DumpDetResults

            runner.test_evaluator.metrics.append(DumpDetResults(out_file_path=options.out))
        return runner.test()


def _test_config(options: TestOptions) -> Config:
    """The config with all that the options change."""
    os.environ.setdefault("LOCAL_RANK", str(options.local_rank))
    if options.out and not options.out.endswith((".pkl", ".pickle")):
        raise LossweaveError(f"--out={options.out!r} should end in .pkl or .pickle")
    cfg = load_config(options.config, _cfg_options(options.cfg_options))
    cfg.launcher = options.launcher
    cfg.work_dir = options.work_dir or cfg.get("work_dir") or default_work_dir(cfg, options.config)
    cfg.load_from = options.checkpoint
    init_default_scope(cfg.get("default_scope", "mmdet"))
    if options.show or options.show_dir:
        hook = cfg.get("default_hooks", {}).get("visualization")
        if hook is None:
            raise LossweaveError("--show and --show-dir need default_hooks.visualization")
        hook.update(draw=True, show=options.show, wait_time=options.wait_time)
        if options.show_dir:
            hook.test_out_dir = options.show_dir
    if options.tta:
        _augment_test(cfg)
    return cfg


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


def _check(options: Common) -> None:
    if options.num_gpus != 1:
        raise LossweaveError(
            "--num-gpus is for Detectron2; several GPUs with MMDetection: "
            "torchrun --nproc_per_node N tools/train.py CONFIG --launcher pytorch"
        )
