"""The command line of ``tools/alternating_vs_joint.py``."""

from collections.abc import Sequence
from typing import Annotated

from lossweave.studies.alternating_vs_joint.findings import STEP4, Study
from lossweave.studies.alternating_vs_joint.study import run_study
from lossweave.studies.options import (
    add_ledger,
    add_processes,
    ledger_of,
    tool_parser,
    trainings_of,
)
from lossweave.utils.arguments import typed
from lossweave.utils.fields import above, between

__all__ = ["alternating_vs_joint"]

_DESCRIPTION = """\
Train a two-stage detector in four alternating steps and jointly, on the same data and from the
same initial weights, over several seeds, and compare: AP after step 2 and after step 4, the
RPN's recall before and after step 3, times of every stage and proposal pass, memory.

The joint training is run at two budgets: the config's, in the papers' proportion (70k x 2 images
against 80k / 40k / 80k / 40k x 1 / 2 / 1 / 2), and at equal compute, with as many image passes as
the alternating one. Every result is a line of a ledger, and only what it lacks is trained;
interrupted trainings (Ctrl-C) go on at their stage and iteration: call again, with more seeds to
add some.

With --lengths all of it is done at several lengths, the shortest first, and the report is about the
difference between the two ways over the length."""

_EXAMPLES = """\
what is written, in work_dirs/alternating_vs_joint:
  alternating_vs_joint.md     tables and verdicts, with stages.png and differences.png
  alternating_vs_joint.json   every number, every training's record, commands, versions, machine
  ledger.jsonl                a line a training; tools/results.py makes the report anew from it
  <way>_seed<n>/              a training: its checkpoints, proposals, logs and record.json
  <way>_x<factor>_seed<n>/    the same with --lengths; the report is lengths.md with lengths.png

examples:
  python tools/make_demo_data.py
  python tools/alternating_vs_joint.py CONFIG --seeds 3
      seeds 0, 1 and 2, one training at a time, so that their times can be compared
  python tools/alternating_vs_joint.py CONFIG --seeds 5 --jobs 2
      two seeds more, two trainings at a time
  python tools/make_demo_data.py --root data/lossweave_screen --size 96
  python tools/alternating_vs_joint.py configs/mmdet/alternating/faster-rcnn_screen.py \\
      --lengths 0.5 1 2 --no-equal --work-dir work_dirs/lengths
      the papers' budgets divided by 400, by 200 and by 100
  python tools/alternating_vs_joint.py CONFIG --no-equal --step4 matlab
      and where the second detector begins: afresh, or where the first one ended
  python tools/alternating_vs_joint.py CONFIG --seeds 1 --no-equal --work-dir work_dirs/look \\
      --cfg-options schedule.rpn.iterations=20 schedule.rcnn.iterations=10 \\
      schedule.joint.iterations=9
      only to see it run
"""


def alternating_vs_joint(arguments: Sequence[str] | None = None) -> None:
    """``tools/alternating_vs_joint.py``: see its ``--help``.

    Raises:
        LossweaveError: wrong input, before anything is trained, or a training that failed.
    """
    parser = tool_parser(_DESCRIPTION, _EXAMPLES)
    parser.add_argument("config", help="of an alternating training; a path or package::path")
    parser.add_argument(
        "--seeds",
        type=typed(Annotated[int, between(1, 1000)]),
        default=3,
        metavar="N",
        help="how many: 0 to N - 1 (%(default)s)",
    )
    parser.add_argument(
        "--no-equal", action="store_true", help="leave out the joint training at equal compute"
    )
    parser.add_argument(
        "--lengths",
        nargs="+",
        type=typed(Annotated[float, above(0)]),
        default=[1.0],
        metavar="FACTOR",
        help="multiples of the config's budgets, the shortest first (1); iterations, drops and "
        "warm-ups are multiplied, and the report says how the gap changes over them",
    )
    parser.add_argument(
        "--step4",
        nargs="+",
        choices=STEP4,
        default=[],
        help="train the four steps once more, where the RoI head of step 4 goes on from all of "
        "step 2 instead of beginning its predictors afresh (matlab), or from step 3 and step 2 "
        "merged (mx-rcnn; the same where backbone and neck are shared)",
    )
    add_processes(parser, Study.work_dir)
    add_ledger(parser)
    args = parser.parse_args(arguments)
    args.seeds = range(args.seeds)
    run_study(
        Study(
            equal=not args.no_equal,
            lengths=tuple(args.lengths),
            step4=tuple(dict.fromkeys(args.step4)),
            ledger=ledger_of(args),
            **trainings_of(args, "alternating_vs_joint", arguments),
        )
    )
