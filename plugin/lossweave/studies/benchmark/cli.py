"""The command line of ``tools/benchmark.py``."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any

import torch

from lossweave.studies.benchmark.boundaries import run_boundaries
from lossweave.studies.benchmark.detectors import DETECTORS
from lossweave.studies.benchmark.findings import Benchmark
from lossweave.studies.benchmark.many_terms import run_many_terms
from lossweave.studies.benchmark.many_terms_findings import ManyTerms
from lossweave.studies.benchmark.study import run_benchmark, value_combiners
from lossweave.studies.options import command_line, tool_parser
from lossweave.utils.arguments import device, folder, typed
from lossweave.utils.fields import COUNT, between

__all__ = ["benchmark"]

_DESCRIPTION = """\
Measure what each value-based combiner adds to a training step.

Steps of the stock detector and of the combined one alternate on one batch, in one process, on
the same weights; what counts is the median of the paired ratios, beside a control that pairs
the stock detector with itself. Because a step's own noise is larger than the cost, the cost is
also measured alone, and host-device synchronisations are counted."""

_EXAMPLES = """\
what is written, in work_dirs/benchmark:
  benchmark.md, benchmark.json

examples:
  python tools/benchmark.py
      three detectors, all value-based combiners; about 15 minutes on 2 CPU cores
  python tools/benchmark.py --detectors retinanet --combiners FAMO DWA --rounds 5
      a quick look
  python tools/benchmark.py --boundaries PCGrad
      what combining gradients costs at each boundary, beside the least that it can cost
  python tools/benchmark.py --many-terms
      the same over 2, 4, 8 and 16 terms, and over 1, 2 and 4 processes; about 10 minutes
  python tools/benchmark.py --many-terms 2 8 --rounds 3
      a quick look at two numbers of terms, in one process"""


def benchmark(arguments: Sequence[str] | None = None) -> None:
    """``tools/benchmark.py``: see its ``--help``.

    Raises:
        LossweaveError: wrong input, before anything is measured.
    """
    parser = _parser()
    args = vars(parser.parse_args(arguments))
    command = command_line("benchmark", arguments)
    boundaries, many_terms = args.pop("boundaries"), args.pop("many_terms")
    if many_terms is not None:
        run_many_terms(_many_terms(many_terms, args, command))
        return
    if boundaries:
        if args["threads"]:
            torch.set_num_threads(args["threads"])
        run_boundaries(
            boundaries,
            args["detectors"],
            args["rounds"],
            args["batch_size"],
            args["device"],
            args["work_dir"] or "work_dirs/boundaries",
            command,
        )
        return
    args["work_dir"] = args["work_dir"] or Benchmark.work_dir
    args["detectors"] = tuple(args["detectors"])
    args["combiners"] = tuple(args["combiners"]) if args["combiners"] else None
    run_benchmark(Benchmark(command=command, **args))


def _many_terms(counts: Sequence[int], args: Mapping[str, Any], command: str) -> ManyTerms:
    standard = ManyTerms()
    return replace(
        standard,
        counts=tuple(counts) or standard.counts,
        processes=() if counts else standard.processes,
        rounds=args["rounds"],
        batch_size=args["batch_size"],
        work_dir=args["work_dir"] or standard.work_dir,
        command=command,
    )


def _parser() -> argparse.ArgumentParser:
    standard = Benchmark()
    parser = tool_parser(_DESCRIPTION, _EXAMPLES)
    parser.add_argument(
        "--detectors",
        nargs="+",
        choices=list(DETECTORS),
        default=list(DETECTORS),
        help=f"({' '.join(DETECTORS)})",
    )
    parser.add_argument(
        "--combiners",
        nargs="+",
        metavar="NAME",
        help=f"(all value-based ones: {' '.join(value_combiners())})",
    )
    parser.add_argument(
        "--rounds",
        type=typed(COUNT),
        default=standard.rounds,
        help="paired ABBA rounds (%(default)s)",
    )
    parser.add_argument(
        "--repeats",
        type=typed(COUNT),
        default=standard.repeats,
        help="repetitions of the cost alone (%(default)s)",
    )
    parser.add_argument(
        "--batch-size",
        type=typed(COUNT),
        default=standard.batch_size,
        help="pictures a step (%(default)s)",
    )
    parser.add_argument(
        "--threads",
        type=typed(Annotated[int, between(1, 1024)]),
        help="torch threads (torch's own choice); with 1, on a CPU, other programs are not timed",
    )
    parser.add_argument(
        "--device",
        type=device,
        help="cpu or cuda (cuda if there is one); on cuda, detectors of full size",
    )
    _add_instead(parser, standard)
    return parser


def _add_instead(parser: argparse.ArgumentParser, standard: Benchmark) -> None:
    """What else is measured, and where everything goes."""
    parser.add_argument(
        "--boundaries",
        metavar="NAME",
        help="measure this combiner of gradients at every boundary instead (PCGrad is cheap)",
    )
    parser.add_argument(
        "--many-terms",
        nargs="*",
        type=typed(Annotated[int, between(2, 1000)]),
        metavar="K",
        help="measure boundaries over these numbers of terms instead (2 4 8 16, and 1, 2 and 4 "
        "processes)",
    )
    parser.add_argument(
        "--work-dir",
        type=folder,
        help=f"({standard.work_dir}; with --boundaries work_dirs/boundaries, with --many-terms "
        "work_dirs/many_terms)",
    )
