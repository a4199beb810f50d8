"""The command line of ``tools/scale.py``."""

from collections.abc import Sequence
from typing import Annotated

from lossweave.errors import LossweaveError
from lossweave.studies.arms.options import add_arms, asked_of
from lossweave.studies.options import tool_parser
from lossweave.studies.scale.report import report
from lossweave.studies.scale.study import OPTIMIZERS, Sweep, run_scale
from lossweave.utils.arguments import typed
from lossweave.utils.fields import RATE, above, between

__all__ = ["scale"]

_DESCRIPTION = """\
When does the scale of a loss begin to matter? Train cls + b loc with b from 0.001 to 1000, under
AdamW and SGD, with and without clipping of the gradient, and draw AP over b: how far b may be from
1 until AP falls, where the other loss becomes the main one, and what of the fall a learning rate
that is chosen anew takes back.

Every result is a line of a ledger, and only what it lacks is trained; interrupted trainings
(Ctrl-C) go on: call again with more seeds or ratios to add them."""

_EXAMPLES = """\
what is written, in work_dirs/scale:
  scale.md                  a verdict, tables, with scale.png
  scale.json                every number, versions, machine
  ledger.jsonl              a line a training; tools/results.py makes the report anew from it
  <arm>/<method>_seed<n>_lr<rate>/  a training: checkpoints, logs, score.json

examples:
  python tools/make_demo_data.py --root data/lossweave_screen --size 96
  python tools/scale.py --seeds 0
      7 ratios, 4 curves, further rates at 3 ratios: 56 trainings of 20 s
  python tools/scale.py --optimizers SGD --clips off --tuned --ratios 0.1 1 10
      three ratios of one curve with 3 seeds: 9 trainings
"""
_POSITIVE = typed(Annotated[float, above(0), between(0, 1e6)])


def scale(arguments: Sequence[str] | None = None) -> None:
    """``tools/scale.py``: see its ``--help``.

    Raises:
        LossweaveError: wrong input, before anything is trained, or a training that failed.
    """
    parser = tool_parser(_DESCRIPTION, _EXAMPLES)
    parser.add_argument(
        "--ratios", nargs="+", type=_POSITIVE, metavar="B",
        default=[1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0, 1000.0],
        help="weights of loc beside 1 for cls (0.001 0.01 0.1 1 10 100 1000)",
    )  # fmt: skip
    parser.add_argument(
        "--optimizers", nargs="+", default=list(OPTIMIZERS), metavar="NAME", help="(AdamW SGD)"
    )
    parser.add_argument(
        "--clips", nargs="+", default=["on", "off"], choices=["on", "off"],
        help="the gradient's norm as the config has it, or not at all (on off)",
    )  # fmt: skip
    parser.add_argument(
        "--rates", nargs="+", type=typed(RATE), default=[2e-3, 5e-3], metavar="RATE",
        help="of the optimizers, in their order (0.002 0.005)",
    )  # fmt: skip
    parser.add_argument(
        "--tuned", nargs="*", type=_POSITIVE, default=[1e-3, 1.0, 1000.0], metavar="B",
        help="ratios at which the rate is chosen anew (0.001 1 1000)",
    )  # fmt: skip
    parser.add_argument(
        "--factors", nargs="+", type=_POSITIVE, default=list(Sweep.factors), metavar="FACTOR",
        help="of the rate that are tried there, beside 1 and, above b = 1, 1 / b (0.3 3)",
    )  # fmt: skip
    add_arms(parser, "lossweave::mmdet/demo/retinanet_screen.py", "work_dirs/scale", 220)
    args = parser.parse_args(arguments)
    if len(args.rates) < len(args.optimizers):
        raise LossweaveError("--rates: name as many as there are optimizers, in their order")
    sweep = Sweep(
        ratios=tuple(map(float, args.ratios)),
        rates=dict(zip(args.optimizers, map(float, args.rates), strict=False)),
        tuned=tuple(map(float, args.tuned)),
        factors=tuple(map(float, args.factors)),
        clips=tuple(args.clips),
    )
    asked = asked_of(args, "scale", arguments)
    if results := run_scale(asked, sweep):
        report(results, asked.work_dir)
