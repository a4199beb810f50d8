"""The command line of ``tools/box_losses.py``."""

from collections.abc import Sequence
from typing import Annotated

from lossweave.studies.arms.options import add_arms, asked_of
from lossweave.studies.box_losses.report import report
from lossweave.studies.box_losses.study import LOSSES, run_box_losses
from lossweave.studies.options import tool_parser
from lossweave.utils.arguments import typed
from lossweave.utils.fields import between

__all__ = ["box_losses"]

_DESCRIPTION = """\
Square or absolute error? Train with box losses from L2 to GIoU, on training boxes of which none,
a few or many are grossly wrong, with several seeds, and ask on clean test data whether the
squared error goes after the outliers: median, mean and 90th percentile of the boxes' errors,
AP50 and AP75, with paired intervals.

Each loss has the weight, of three, that is best on the validation split with clean boxes and the
first seed. Every result is a line of a ledger, and only what it lacks is trained; interrupted
trainings (Ctrl-C) go on: call again with more seeds to add them."""

_EXAMPLES = """\
what is written, in work_dirs/box_losses:
  box_losses.md             a verdict, tables, with errors.png and distributions.png
  box_losses.json           every number, versions, machine
  ledger.jsonl              a line a training; tools/results.py makes the report anew from it
  <arm>/Sum_seed<n>/        a training: checkpoints, logs, score.json, the test split's boxes

examples:
  python tools/make_demo_data.py --root data/lossweave_screen --size 96
  python tools/box_losses.py
      4 losses, 3 shares, 3 seeds and the weights: 44 trainings of 40 s
  python tools/box_losses.py --losses L1 L2 --shares 0 0.2 --iterations 220
      two losses, shorter: 16 trainings of 20 s
"""


def box_losses(arguments: Sequence[str] | None = None) -> None:
    """``tools/box_losses.py``: see its ``--help``.

    Raises:
        LossweaveError: wrong input, before anything is trained, or a training that failed.
    """
    parser = tool_parser(_DESCRIPTION, _EXAMPLES)
    parser.add_argument(
        "--losses",
        nargs="+",
        default=list(LOSSES),
        metavar="LOSS",
        help=f"of {', '.join(LOSSES)} (all)",
    )
    parser.add_argument(
        "--shares",
        nargs="+",
        type=typed(Annotated[float, between(0, 1)]),
        default=[0.0, 0.05, 0.2],
        help="of the training boxes that are wrong (0 0.05 0.2)",
    )
    add_arms(
        parser, "lossweave::mmdet/demo/retinanet_screen_outliers.py", "work_dirs/box_losses", None
    )
    args = parser.parse_args(arguments)
    asked = asked_of(args, "box_losses", arguments)
    results = run_box_losses(asked, args.losses, [float(share) for share in args.shares])
    if results:
        report(results, asked.work_dir)
