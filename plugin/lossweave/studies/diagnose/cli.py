"""The command line of ``tools/diagnose.py``."""

from collections.abc import Sequence

from lossweave.studies.diagnose.asked import ITERATIONS, STAGES, Asked
from lossweave.studies.diagnose.study import run_diagnosis
from lossweave.studies.options import add_ledger, command_line, ledger_of, tool_parser
from lossweave.utils.arguments import parse_terms

__all__ = ["diagnose"]

_DESCRIPTION = """\
Train a detector as the plain sum does, bit for bit, and look at it on the way: do its losses
differ in scale, do they conflict and where, what is noise, what does the optimizer make of them?
The report says in words whether weights or another combiner are likely to matter, and which
static weights would balance the gradients. After the last iteration a few more batches go through
without a step, to tell signal from noise. Ctrl-C writes the report of what was seen so far."""

_EXAMPLES = """\
what is written, in work_dirs/diagnose_<config>:
  diagnosis.md      answers first, then the numbers, with diagnosis.png
  diagnosis.json    all of it, with `static_weights`, thresholds, versions, machine
  ledger.jsonl      the looks; tools/results.py makes the report anew from it

examples:
  # a config of your own, or one that a package ships; 2 minutes on 2 CPU cores for the demo's
  python tools/diagnose.py configs/mmdet/demo/retinanet_demo.py
  python tools/diagnose.py detectron2://COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml
  # where a training stands, from its checkpoint; or from several, side by side
  python tools/diagnose.py CONFIG --checkpoint work_dirs/mine/epoch_6.pth
  python tools/diagnose.py CONFIG --checkpoint epoch_1.pth epoch_12.pth --iterations 80
  # a whole training, looked at in the beginning, in the middle and in the end
  python tools/diagnose.py CONFIG --stages start,middle,end --interval 20
  # RPN and RoI head apart; terms of your own
  python tools/diagnose.py CONFIG --terms head
  python tools/diagnose.py CONFIG --terms cls=loss_cls box=loss_bbox,loss_iou
  # the same lengths and cosines as scalars, in TensorBoard
  python tools/diagnose.py CONFIG --cfg-options \\
      'visualizer.vis_backends=[dict(type="TensorboardVisBackend")]'
"""


def diagnose(arguments: Sequence[str] | None = None) -> None:
    """``tools/diagnose.py``: see its ``--help``.

    Raises:
        LossweaveError: wrong input, before anything is trained.
    """
    parser = tool_parser(_DESCRIPTION, _EXAMPLES)
    parser.add_argument("config", help="of either framework; a path or package::path")
    parser.add_argument(
        "--checkpoint", nargs="+", default=[], metavar="FILE", help="begin from these weights; "
        "several are diagnosed one after the other",
    )  # fmt: skip
    parser.add_argument(
        "--iterations", type=int, help=f"to train ({ITERATIONS}; with --stages the config's own)"
    )
    parser.add_argument(
        "--interval", type=int, default=Asked.interval, metavar="N",
        help="updates from look to look (%(default)s); a look takes about as long as a step",
    )  # fmt: skip
    parser.add_argument(
        "--stages", default="", metavar="NAMES",
        help=f"look there alone, each a fifth of the training: some of {','.join(STAGES)}",
    )  # fmt: skip
    parser.add_argument(
        "--terms", nargs="+", metavar="TERMS",
        help="'task', 'head', 'loss', 'layer', 'level', or NAME=PATTERN,... (the config's)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=Asked.seed, help="(%(default)s)")
    parser.add_argument("--work-dir", help="(work_dirs/diagnose_<config>)")
    parser.add_argument(
        "--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", help="override the config"
    )
    add_ledger(parser)
    args = parser.parse_args(arguments)
    run_diagnosis(
        Asked(
            config=args.config,
            checkpoints=tuple(args.checkpoint),
            iterations=args.iterations,
            interval=args.interval,
            stages=tuple(name for name in args.stages.split(",") if name),
            terms=parse_terms(args.terms),
            seed=args.seed,
            work_dir=args.work_dir,
            options=tuple(args.cfg_options),
            ledger=ledger_of(args),
            command=command_line("diagnose", arguments),
        )
    )
