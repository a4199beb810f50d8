"""The command line of ``tools/precision_recall.py``."""

from collections.abc import Sequence

from lossweave.studies.options import (
    add_ledger,
    add_processes,
    add_rates,
    command_line,
    ledger_of,
    tool_parser,
)
from lossweave.studies.precision_recall.findings import Asked
from lossweave.studies.precision_recall.study import run_detectors

__all__ = ["precision_recall"]

_DESCRIPTION = """\
Train detectors beside each other at one budget, with several seeds, and ask what recall costs
in precision: curves at IoU 0.5, 0.6 and 0.75, recall at a fixed precision, precision at a fixed
recall, AP, with paired intervals. The first config is the reference. With --rates every detector
is trained at further learning rates with the first seed, too, and compared at the one with the best
AP on the validation split beside the comparison at the configs' own.

Every result is a line of a ledger, and only what it lacks is trained; interrupted trainings
(Ctrl-C) go on: call again with more seeds or configs to add them."""

_EXAMPLES = """\
what is written, in work_dirs/precision_recall:
  precision_recall.md       a sentence, a table, with curves.png
  precision_recall.json     every number, versions, machine
  ledger.jsonl              a line a training; tools/results.py makes the report anew from it
  <config>/<method>_seed<n>/  a training: checkpoints, logs, score.json, the test split's boxes

examples:
  python tools/make_demo_data.py
  python tools/precision_recall.py
      Faster R-CNN and Cascade R-CNN on the demo data, 3 seeds: 6 trainings of 3 to 5 minutes
  python tools/precision_recall.py --work-dir work_dirs/nonapproximate \\
      --configs lossweave::mmdet/demo/faster-rcnn_demo.py \\
                lossweave::mmdet/demo/faster-rcnn_nonapproximate_demo.py
      joint training without and with the gradient through the proposals' coordinates
  python tools/precision_recall.py --rates 1e-3 5e-4
      the first two, each at the best of three rates, too: 4 to 8 trainings more
"""
_CONFIGS = (
    "lossweave::mmdet/demo/faster-rcnn_demo.py",
    "lossweave::mmdet/demo/cascade-rcnn_demo.py",
)


def precision_recall(arguments: Sequence[str] | None = None) -> None:
    """``tools/precision_recall.py``: see its ``--help``.

    Raises:
        LossweaveError: wrong input, before anything is trained, or a training that failed.
    """
    parser = tool_parser(_DESCRIPTION, _EXAMPLES)
    parser.add_argument("--seeds", nargs="+", type=int, default=list(Asked.seeds), help="(0 1 2)")
    parser.add_argument(
        "--configs",
        nargs="+",
        default=list(_CONFIGS),
        metavar="CONFIG",
        help="paths or package::paths (the demo's Faster R-CNN and Cascade R-CNN)",
    )
    add_rates(parser, "learning rates to choose from, beside the configs' own (none)")
    parser.add_argument("--method", default=Asked.method, help="the combiner of all (%(default)s)")
    add_processes(parser, Asked.work_dir)
    add_ledger(parser)
    args = parser.parse_args(arguments)
    run_detectors(
        Asked(
            configs=tuple(args.configs),
            seeds=tuple(args.seeds),
            method=args.method,
            work_dir=args.work_dir,
            jobs=args.jobs,
            options=tuple(args.cfg_options),
            command=command_line("precision_recall", arguments),
            ledger=ledger_of(args),
            rates=tuple(args.rates),
        )
    )
