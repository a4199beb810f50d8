"""The options of ``tools/train.py`` and ``tools/test.py``: words to data, for both frameworks."""

import argparse
import ast
from collections.abc import Sequence
from typing import Any

from lossweave.combiners import combiner_names
from lossweave.errors import LossweaveError
from lossweave.host.options import TestOptions, TrainOptions
from lossweave.utils.arguments import OneLineParser, parse_terms
from lossweave.utils.fields import read_fields

__all__ = [
    "parse_options",
    "parse_terms",
    "parse_test",
    "parse_train",
    "parse_value",
    "test_parser",
    "train_parser",
]

_TRAIN_EXAMPLES = """\
examples:
  # a config that names its combiner
  python tools/train.py configs/mmdet/demo/retinanet_demo.py
  # any stock config, wrapped without editing it
  python tools/train.py mmdet::ssd/ssd300_coco.py --combiner UncertaintyWeighting
  python tools/train.py mmdet::retinanet/retinanet_r18_fpn_1x_coco.py \\
      --combiner DWA --combiner-options temperature=1.0 period=500
  # Detectron2: a yaml config or a LazyConfig, of your own or of its model zoo
  python tools/train.py detectron2://COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml \\
      --combiner PCGrad --combiner-options boundary=features --num-gpus 8
  # a term that is twice as important to you, whatever the method makes of that
  python tools/train.py configs/mmdet/demo/retinanet_demo.py \\
      --combiner MGDA --combiner-options boundary=features 'prefer={cls:2,loc:1}'
  # own terms: shell-style patterns of the detector's losses
  python tools/train.py mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py --combiner Product \\
      --terms 'cls=loss_cls' 'loc=loss_bbox,loss_centerness'
  # Faster R-CNN in four steps; every stage resumes with --resume, too
  python tools/train.py configs/mmdet/alternating/faster-rcnn_demo.py
  python tools/train.py configs/detectron2/alternating/faster_rcnn_demo.py
  # go on after a stop, from the newest checkpoint in the work directory
  python tools/train.py CONFIG --resume
  # several GPUs with MMDetection: its own launchers
  torchrun --nproc_per_node 8 tools/train.py CONFIG --launcher pytorch
"""
_TEST_EXAMPLES = """\
examples:
  python tools/test.py configs/mmdet/demo/retinanet_demo.py \\
      work_dirs/retinanet_demo_Sum/iter_500.pth --show-dir pictures
  python tools/test.py configs/detectron2/demo/retinanet_demo.py \\
      work_dirs/retinanet_demo_Sum/model_final.pth
"""


def parse_train(arguments: Sequence[str] | None = None) -> TrainOptions:
    """What ``tools/train.py`` is asked for.

    Args:
        arguments: the words; the process's own if None.

    Raises:
        LossweaveError: words that do not fit.

    Example:
        >>> parse_train(["x.py", "--combiner", "DWA", "--combiner-options", "period=7"]).combiner
        'DWA'
    """
    values = vars(train_parser().parse_args(arguments))
    values["combiner_options"] = parse_options("--combiner-options", values["combiner_options"])
    values["terms"] = parse_terms(values["terms"])
    return read_fields(TrainOptions, _as_typed(values))


def parse_test(arguments: Sequence[str] | None = None) -> TestOptions:
    """What ``tools/test.py`` is asked for.

    Args:
        arguments: the words; the process's own if None.

    Raises:
        LossweaveError: words that do not fit.
    """
    return read_fields(TestOptions, _as_typed(vars(test_parser().parse_args(arguments))))


def _as_typed(values: dict[str, Any]) -> dict[str, Any]:
    return {**values, "cfg_options": values["cfg_options"] or ()}


def _parser(description: str, examples: str) -> OneLineParser:
    parser = OneLineParser(description=description, epilog=examples)
    parser.add_argument(
        "config",
        help="path of a config of either framework, or mmdet::PATH, lossweave::PATH, "
        "detectron2://PATH for one that a package ships",
    )
    return parser


def _add_stock_options(parser: OneLineParser) -> None:
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        metavar="KEY=VALUE",
        help="override settings of the config, e.g. model.bbox_head.num_classes=10 or "
        'SOLVER.BASE_LR=0.01; MMDetection takes lists as key="[a,b]" or key=a,b',
    )
    parser.add_argument(
        "--launcher",
        choices=["none", "pytorch", "slurm", "mpi"],
        default="none",
        help="MMDetection's job launcher",
    )
    parser.add_argument(
        "--num-gpus", type=int, default=1, help="GPUs of this machine, for Detectron2"
    )
    parser.add_argument("--local_rank", "--local-rank", type=int, default=0, help=argparse.SUPPRESS)


def train_parser() -> OneLineParser:
    """The options of ``tools/train.py``: the stock tools', and the combiner's."""
    parser = _parser(
        "Train a detector; its losses are combined as the config or --combiner says.",
        _TRAIN_EXAMPLES,
    )
    parser.add_argument(
        "--work-dir", help="where logs and checkpoints go (work_dirs/<config>_<combiner>)"
    )
    parser.add_argument("--amp", action="store_true", help="train with mixed precision")
    parser.add_argument(
        "--auto-scale-lr",
        action="store_true",
        help="scale the learning rate to the batch size (MMDetection)",
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
        metavar="KEY=VALUE",
        help="arguments of the combiner, e.g. temperature=1.0; most take prefer={cls:2,loc:1}",
    )
    group.add_argument(
        "--terms",
        nargs="+",
        metavar="TERMS",
        help="'task' (cls, loc), 'head' (rpn_cls, rpn_loc, roi_cls, roi_loc), 'loss' (each loss), "
        "'layer', 'level', or NAME=PATTERN,...; left out, the config's, else 'task', or 'loss' "
        "where that fits nothing",
    )
    group.add_argument(
        "--exact-resume",
        action="store_true",
        help="number the draws, so that --resume from any iteration ends bit-identical "
        "(lossweave's own configs do; it changes the random numbers of a stock config)",
    )
    return parser


def test_parser() -> OneLineParser:
    """The options of ``tools/test.py``: the stock tools'."""
    parser = _parser(
        "Evaluate a detector's checkpoint. Combined and stock checkpoints both fit.",
        _TEST_EXAMPLES,
    )
    parser.add_argument("checkpoint", help="path of the checkpoint")
    parser.add_argument("--work-dir", help="where the metrics go (work_dirs/<config>_<combiner>)")
    parser.add_argument("--tta", action="store_true", help="test-time augmentation")
    group = parser.add_argument_group("MMDetection alone")
    group.add_argument("--out", metavar="FILE.pkl", help="write the detections, for offline use")
    group.add_argument("--show", action="store_true", help="show the detections in a window")
    group.add_argument("--show-dir", metavar="DIR", help="write pictures of the detections")
    group.add_argument("--wait-time", type=float, default=2, help="seconds per picture shown")
    _add_stock_options(parser)
    return parser


def parse_options(option: str, words: Sequence[str] | None) -> dict[str, Any]:
    """Values by name from KEY=VALUE words.

    Args:
        option: the option that they belong to, for messages.
        words: what followed it.

    Raises:
        LossweaveError: a word without a key or a value.

    Example:
        >>> parse_options("--combiner-options", ["temperature=1", "boundary=features"])
        {'temperature': 1, 'boundary': 'features'}
    """
    values = {}
    for word in words or ():
        key, equals, value = word.partition("=")
        if not key or not equals:
            raise LossweaveError(f"{option}: {word!r} should be KEY=VALUE")
        values[key] = parse_value(value)
    return values


def parse_value(text: str) -> Any:
    """A value as typed: a number, true, false, none, a list, a dict, otherwise a name.

    Example:
        >>> [parse_value(t) for t in ("1e-3", "true", "a", "[1,b]", "1,2", "{cls: 1, loc: 2}")]
        [0.001, True, 'a', [1, 'b'], [1, 2], {'cls': 1, 'loc': 2}]
    """
    text = text.strip()
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    parts = _split(text)
    if len(parts) > 1:
        return [parse_value(part) for part in parts]
    if text[:1] + text[-1:] in ("[]", "()"):
        inner = text[1:-1].strip()
        return [parse_value(part) for part in _split(inner)] if inner else []
    if text[:1] + text[-1:] == "{}":
        pairs = [part.partition(":") for part in _split(text[1:-1]) if part.strip()]
        return {str(parse_value(key)): parse_value(value) for key, _, value in pairs}
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _split(text: str) -> list[str]:
    """At the commas outside of brackets."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "[({") - (letter in "])}")
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return parts
