"""The command lines of ``tools/train.py`` and ``tools/test.py``."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from mmengine.config import ConfigDict, DictAction
from mmengine.registry import RUNNERS, init_default_scope
from mmengine.runner import Runner

from lossweave.combiners import combiner_names
from lossweave.errors import LossweaveError
from lossweave.mmdet.configuring import (
    default_work_dir,
    load_config,
    refuse_other_checkpoints,
    with_combiner,
    with_exact_resume,
)

__all__ = ["run", "test", "train"]

_TRAIN_EXAMPLES = """\
examples:
  # a config that names its combiner
  python tools/train.py configs/mmdet/demo/retinanet_demo.py
  # any stock config, wrapped without editing it
  python tools/train.py mmdet::ssd/ssd300_coco.py --combiner UncertaintyWeighting
  python tools/train.py mmdet::retinanet/retinanet_r18_fpn_1x_coco.py \\
      --combiner DWA --combiner-options temperature=1.0 period=500
  # own terms: shell-style patterns of the detector's losses
  python tools/train.py mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py --combiner Product \\
      --terms 'cls=loss_cls' 'loc=loss_bbox,loss_centerness'
  # Faster R-CNN in four steps; every stage resumes with --resume, too
  python tools/train.py configs/mmdet/alternating/faster-rcnn_demo.py
  # go on after a stop, from the newest checkpoint in the work directory
  python tools/train.py CONFIG --resume
  # several GPUs: the frameworks' own launchers
  torchrun --nproc_per_node 8 tools/train.py CONFIG --launcher pytorch
"""


def run(main: Callable[[], None]) -> None:
    """Run a tool: wrong input is one line on standard error and exit status 2."""
    try:
        main()
    except LossweaveError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)


def _parser(description: str, examples: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=description,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("config", help="path of a config, or package::path (mmdet::, lossweave::)")
    return parser


def _add_stock_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=DictAction,
        metavar="KEY=VALUE",
        help="override settings of the config, e.g. model.bbox_head.num_classes=10; lists as "
        'key="[a,b]" or key=a,b',
    )
    parser.add_argument(
        "--launcher",
        choices=["none", "pytorch", "slurm", "mpi"],
        default="none",
        help="the framework's job launcher",
    )
    parser.add_argument("--local_rank", "--local-rank", type=int, default=0, help=argparse.SUPPRESS)


def train_parser() -> argparse.ArgumentParser:
    """The options of ``tools/train.py``: the stock tool's, and the combiner's."""
    parser = _parser(
        "Train a detector; its losses are combined as the config or --combiner says.",
        _TRAIN_EXAMPLES,
    )
    parser.add_argument(
        "--work-dir", help="where logs and checkpoints go (work_dirs/<config>_<combiner>)"
    )
    parser.add_argument("--amp", action="store_true", help="train with mixed precision")
    parser.add_argument(
        "--auto-scale-lr", action="store_true", help="scale the learning rate to the batch size"
    )
    parser.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        metavar="CHECKPOINT",
        help="go on from a checkpoint, or from the newest in the work directory",
    )
    _add_stock_options(parser)
    group = parser.add_argument_group("combining the losses")
    group.add_argument(
        "--combiner",
        metavar="NAME",
        help="how the terms become one scalar: " + ", ".join(combiner_names()),
    )
    group.add_argument(
        "--combiner-options",
        nargs="+",
        action=DictAction,
        metavar="KEY=VALUE",
        help="arguments of the combiner, e.g. temperature=1.0",
    )
    group.add_argument(
        "--terms",
        nargs="+",
        metavar="TERMS",
        help="'task' (cls, loc), 'head' (rpn_cls, rpn_loc, roi_cls, roi_loc), or NAME=PATTERN,...",
    )
    group.add_argument(
        "--exact-resume",
        action="store_true",
        help="number the draws, so that --resume from any iteration ends bit-identical "
        "(lossweave's own configs do; it changes the random numbers of a stock config)",
    )
    return parser


def train(arguments: Sequence[str] | None = None) -> Runner:
    """``tools/train.py``: train as the stock tool does, with the losses combined.

    Returns:
        The runner, after training.

    Raises:
        LossweaveError: wrong input, before anything is trained.
    """
    args = train_parser().parse_args(arguments)
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    cfg = load_config(args.config, args.cfg_options)
    with_combiner(cfg, args.combiner, args.combiner_options, _terms(args.terms))
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


def test_parser() -> argparse.ArgumentParser:
    """The options of ``tools/test.py``: the stock tool's."""
    parser = _parser(
        "Evaluate a detector's checkpoint. Combined and stock checkpoints both fit.",
        "example:\n  python tools/test.py configs/mmdet/demo/retinanet_demo.py "
        "work_dirs/retinanet_demo_Sum/iter_500.pth --show-dir pictures\n",
    )
    parser.add_argument("checkpoint", help="path of the checkpoint")
    parser.add_argument("--work-dir", help="where the metrics go (work_dirs/<config>_<combiner>)")
    parser.add_argument("--out", metavar="FILE.pkl", help="write the detections, for offline use")
    parser.add_argument("--show", action="store_true", help="show the detections in a window")
    parser.add_argument("--show-dir", metavar="DIR", help="write pictures of the detections")
    parser.add_argument("--wait-time", type=float, default=2, help="seconds per picture shown")
    parser.add_argument("--tta", action="store_true", help="test-time augmentation")
    _add_stock_options(parser)
    return parser


def test(arguments: Sequence[str] | None = None) -> dict[str, float]:
    """``tools/test.py``: evaluate as the stock tool does.

    Returns:
        The metrics by name.

    Raises:
        LossweaveError: wrong input.
    """
    args = test_parser().parse_args(arguments)
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    if not os.path.isfile(args.checkpoint):
        raise LossweaveError(f"there is no checkpoint {args.checkpoint!r}")
    if args.out and not args.out.endswith((".pkl", ".pickle")):
        raise LossweaveError(f"--out={args.out!r} should end in .pkl or .pickle")
    cfg = load_config(args.config, args.cfg_options)
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


def _terms(words: Sequence[str] | None) -> Any:
    """What ``--terms`` means: one word, or NAME=PATTERN,PATTERN ..."""
    if not words:
        return None
    if len(words) == 1 and "=" not in words[0]:
        return words[0]
    terms = {}
    for word in words:
        name, equals, patterns = word.partition("=")
        if not equals or not patterns:
            raise LossweaveError(f"--terms: {word!r} should be NAME=PATTERN[,PATTERN...]")
        terms[name] = patterns.split(",")
    return terms
