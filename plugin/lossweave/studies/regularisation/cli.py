"""The command line of ``tools/regularisation.py``."""

from collections.abc import Sequence
from typing import Annotated

from lossweave.studies.arms.options import add_arms, asked_of
from lossweave.studies.options import tool_parser
from lossweave.studies.regularisation.report import report
from lossweave.studies.regularisation.study import (
    KINDS,
    MODULES,
    OTHERS,
    Sweep,
    run_regularisation,
)
from lossweave.utils.arguments import typed
from lossweave.utils.fields import above, between

__all__ = ["regularisation"]

_DESCRIPTION = """\
Is the corner of the L-curve the best lambda? Train with an l1 and an l2 penalty on the weights of
some modules, from almost none to far too much, and with AdamW's own decay of the same weights
beside them; draw the data's loss against the penalty, find the corner by its curvature, and lay
AP over lambda beside it. What l1 makes sparse and what l2 shrinks is read from the weights.

Every result is a line of a ledger, and only what it lacks is trained; interrupted trainings
(Ctrl-C) go on: call again with more seeds or strengths to add them."""

_EXAMPLES = """\
what is written, in work_dirs/regularisation:
  regularisation.md         a verdict, tables, with l_curve.png, strength.png and weights.png
  regularisation.json       every number, versions, machine
  ledger.jsonl              a line a training; tools/results.py makes the report anew from it
  <arm>/Sum_seed<n>/        a training: checkpoints, logs, score.json

examples:
  python tools/make_demo_data.py --root data/lossweave_screen --size 96
  python tools/regularisation.py
      7 strengths of l1 and of l2, 4 of AdamW's decay, none, 3 seeds: 57 trainings of 20 s
  python tools/regularisation.py --l1 1e-6 1e-5 1e-4 --l2 --decay --seeds 0
      l1 alone, one seed: 4 trainings
"""
_DEFAULTS = dict(
    l1=(1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2),
    l2=(1e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0),
    decay=(0.5, 2.0, 5.0, 20.0),
)
_TEXTS = dict(
    l1="of lambda sum |w|", l2="of lambda / 2 sum w^2", decay="AdamW's weight_decay, lambda"
)


def regularisation(arguments: Sequence[str] | None = None) -> None:
    """``tools/regularisation.py``: see its ``--help``.

    Raises:
        LossweaveError: wrong input, before anything is trained, or a training that failed.
    """
    parser = tool_parser(_DESCRIPTION, _EXAMPLES)
    for kind in KINDS:
        values = _DEFAULTS[kind]
        parser.add_argument(
            f"--{kind}",
            nargs="*",
            type=typed(Annotated[float, above(0), between(0, 1e6)]),
            default=list(values),
            metavar="LAMBDA",
            help=f"strengths {_TEXTS[kind]} ({' '.join(f'{value:g}' for value in values)})",
        )
    parser.add_argument(
        "--modules",
        nargs="+",
        default=list(MODULES),
        metavar="MODULE",
        help="whose weights shrink (RetinaNet's but the backbone and the last layer of classes)",
    )
    parser.add_argument(
        "--others",
        nargs="+",
        default=list(OTHERS),
        metavar="PART",
        help="of all other weights' names, which the decay leaves alone (backbone retina_cls)",
    )
    add_arms(
        parser, "lossweave::mmdet/demo/retinanet_screen.py", "work_dirs/regularisation", 220
    )
    args = parser.parse_args(arguments)
    lambdas = {kind: tuple(map(float, getattr(args, kind))) for kind in KINDS}
    sweep = Sweep(lambdas, tuple(args.modules), tuple(args.others))
    asked = asked_of(args, "regularisation", arguments)
    if results := run_regularisation(asked, sweep):
        report(results, asked.work_dir)
