"""The command line of ``tools/short_runs.py``."""

import sys
from collections.abc import Sequence

from lossweave.studies.options import command_line, tool_parser
from lossweave.studies.short_runs.findings import CONFIGS, ShortRuns, gradient_combiners
from lossweave.studies.short_runs.study import run_short_runs
from lossweave.utils.arguments import folder, typed
from lossweave.utils.fields import COUNT, SEED

__all__ = ["short_runs"]

_DESCRIPTION = """\
Train the demo's three detectors for a few iterations with every combiner of gradients, or with
those named, and see whether every training is finite and its losses fall.

Finished trainings are kept when called again. The exit status is 1 where one is not finite,
does not fall, or fails."""

_EXAMPLES = """\
what is written, in work_dirs/short_runs:
  short_runs.md             a row per training, with short_runs.png
  short_runs.json           every iteration's terms, seconds, versions, machine
  ledger.jsonl              a line a training; tools/results.py makes the report anew from it
  <detector>/<combiner>/    the training's log

examples:
  python tools/short_runs.py
      Sum and every combiner of gradients on 3 detectors, 100 iterations each; about 25 minutes
      on 2 CPU cores
  python tools/short_runs.py --combiners MGDA PCGrad --detectors retinanet
      two trainings
  python tools/short_runs.py --boundary features --work-dir work_dirs/short_runs_features
      the same at another boundary"""


def short_runs(arguments: Sequence[str] | None = None) -> None:
    """``tools/short_runs.py``: see its ``--help``.

    Raises:
        LossweaveError: wrong input, before anything is trained.
        SystemExit: a training is not as it should be.
    """
    standard = ShortRuns()
    parser = tool_parser(_DESCRIPTION, _EXAMPLES)
    parser.add_argument(
        "--combiners",
        nargs="+",
        metavar="NAME",
        help=f"(Sum and all that need gradients: {' '.join(gradient_combiners())})",
    )
    parser.add_argument(
        "--detectors",
        nargs="+",
        choices=list(CONFIGS),
        default=list(CONFIGS),
        help=f"({' '.join(CONFIGS)})",
    )
    parser.add_argument(
        "--iterations",
        type=typed(COUNT),
        default=standard.iterations,
        help="of a training (%(default)s)",
    )
    parser.add_argument(
        "--batch-size",
        type=typed(COUNT),
        default=standard.batch_size,
        help="pictures (%(default)s)",
    )
    parser.add_argument(
        "--boundary", metavar="WHERE", help="where gradients are combined (each combiner's own)"
    )
    parser.add_argument("--seed", type=typed(SEED), default=standard.seed, help="(%(default)s)")
    parser.add_argument("--work-dir", type=folder, default=standard.work_dir, help="(%(default)s)")
    parser.add_argument("--fresh", action="store_true", help="discard earlier trainings first")
    args = vars(parser.parse_args(arguments))
    args["combiners"] = tuple(args["combiners"]) if args["combiners"] else None
    args["detectors"] = tuple(args["detectors"])
    runs = run_short_runs(ShortRuns(command=command_line("short_runs", arguments), **args))
    if not all(run.good for run in runs):
        sys.exit(1)
