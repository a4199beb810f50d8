"""The command line of ``tools/demo.py``."""

from collections.abc import Sequence

from lossweave.combiners import combiner_names
from lossweave.studies.demo.study import Demo, run_demo
from lossweave.studies.options import command_line, tool_parser
from lossweave.studies.runs.demo_data import DEFAULT_CONFIG
from lossweave.utils.arguments import folder, typed
from lossweave.utils.fields import COUNT, SEED

__all__ = ["demo"]

_DESCRIPTION = """\
Train one small detector with several combiners, on the same data in the same order, and
compare them: a table here, and a report with plots and pictures in the work directory.

Finished trainings are kept when called again, and interrupted ones (Ctrl-C) go on."""

_EXAMPLES = """\
what is written, in work_dirs/demo:
  report.md                 the comparison, with terms.png, weights.png and sheet.png
  record.json               every number, seeds, versions, commands, machine
  <combiner>.py             the config of one training; tools/train.py takes it, too
  <combiner>/               its checkpoints and logs (tensorboard --logdir work_dirs/demo)

examples:
  python tools/demo.py
      the sum beside a learned weighting; at most 15 minutes on 2 CPU cores
  python tools/demo.py --combiners Sum DWA GeometricMean --work-dir work_dirs/three
      other combiners
  python tools/demo.py --config lossweave::mmdet/demo/faster-rcnn_demo.py --work-dir work_dirs/frcnn
      another detector
  python tools/demo.py --seed 1 --work-dir work_dirs/seed1
      another seed: one is no evidence
  python tools/demo.py --iterations 20 --work-dir work_dirs/try
      only to see it run: nothing is learned in 20 iterations"""


def demo(arguments: Sequence[str] | None = None) -> None:
    """``tools/demo.py``: see its ``--help``.

    Raises:
        LossweaveError: wrong input, before anything is trained.
    """
    standard = Demo()
    parser = tool_parser(_DESCRIPTION, _EXAMPLES)
    parser.add_argument(
        "--config",
        default=DEFAULT_CONFIG,
        help="config of the detector, a path or package::path (%(default)s)",
    )
    parser.add_argument(
        "--combiners",
        nargs="+",
        metavar="NAME",
        default=list(standard.combiners),
        help=f"what to compare ({' '.join(standard.combiners)}); there are "
        + ", ".join(combiner_names()),
    )
    parser.add_argument(
        "--seed",
        type=typed(SEED),
        default=0,
        help="of initial weights and data order (%(default)s)",
    )
    parser.add_argument(
        "--iterations",
        type=typed(COUNT),
        help="length of a training; schedules follow (the config's)",
    )
    parser.add_argument(
        "--data-root",
        type=folder,
        help="folder of the data, made there if there is none (the config's)",
    )
    parser.add_argument("--work-dir", type=folder, default=standard.work_dir, help="(%(default)s)")
    parser.add_argument("--fresh", action="store_true", help="discard earlier trainings first")
    args = parser.parse_args(arguments)
    options = {**vars(args), "combiners": tuple(args.combiners)}
    run_demo(Demo(command=command_line("demo", arguments), **options))
