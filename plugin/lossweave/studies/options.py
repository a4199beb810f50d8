"""The command lines of the tools that run studies."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from typing import Any

import torch

from lossweave.combiners import combiner_names
from lossweave.errors import LossweaveError
from lossweave.studies.alternating_vs_joint.study import Study, run_study
from lossweave.studies.benchmark.boundaries import run_boundaries
from lossweave.studies.benchmark.study import DETECTORS, Benchmark, run_benchmark, value_combiners
from lossweave.studies.compare.study import Comparison, run_comparison
from lossweave.studies.demo.study import DEFAULT_CONFIG, Demo, run_demo
from lossweave.studies.runs.training import Method
from lossweave.studies.short_runs.study import (
    CONFIGS,
    ShortRuns,
    gradient_combiners,
    run_short_runs,
)
from lossweave.studies.turns.study import Turns, run_turns

__all__ = ["alternating_vs_joint", "benchmark", "compare", "demo", "short_runs", "turns"]

_DEMO = """\
Train one small detector with several combiners, on the same data in the same order, and
compare them: a table here, and a report with plots and pictures in the work directory.

Finished trainings are kept when called again, and interrupted ones (Ctrl-C) go on."""

_DEMO_EXAMPLES = """\
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

_BENCHMARK = """\
Measure what each value-based combiner adds to a training step.

Steps of the stock detector and of the combined one alternate on one batch, in one process, on
the same weights; what counts is the median of the paired ratios, beside a control that pairs
the stock detector with itself. Because a step's own noise is larger than the cost, the cost is
also measured alone, and host-device synchronisations are counted."""

_BENCHMARK_EXAMPLES = """\
what is written, in work_dirs/benchmark:
  benchmark.md, benchmark.json

examples:
  python tools/benchmark.py
      three detectors, all value-based combiners; about 15 minutes on 2 CPU cores
  python tools/benchmark.py --detectors retinanet --combiners FAMO DWA --rounds 5
      a quick look
  python tools/benchmark.py --boundaries PCGrad
      what combining gradients costs at each boundary, beside the K-pass limit"""


_COMPARE = """\
Train several methods with several seeds each and compare them with the best of the sums.

A method is a combiner's name, or a name and its options in quotes. The sums among the methods
are the sweep over the sum's weights: the best on the validation split is the tuned sum, and the
differences to it, paired by seed, are measured on the test split. Finished trainings are kept,
so seeds and methods can be added by calling again with more of them.

With --rates every method, the sums included, is first trained at each of these learning rates
with the first seed; its further seeds are trained at the rate with the best AP on the validation
split. Without, all methods have the config's rate, which was chosen for the sum: methods whose
weights have another scale may then fall behind for that alone."""

_COMPARE_EXAMPLES = """\
what is written, in work_dirs/compare:
  comparison.md             table and verdict, with scores.png
  comparison.json           every number, commands, versions, machine
  <method>_seed<n>/         a training: its checkpoints, logs and score.json
  <method>_seed<n>_lr<x>/   the same with --rates

examples:
  python tools/make_demo_data.py
  python tools/compare.py --jobs 2 --rates 5e-4 1e-3 2e-3 \\
      --methods Sum "Sum weights=[2,1]" UncertaintyWeighting "MGDA boundary=features"
      a rate for each, from three: 20 trainings; about 40 minutes on 2 CPU cores
  python tools/compare.py --methods Sum "Sum weights=[1,2]" "Sum weights=[1,4]" FAMO DWA
  python tools/compare.py --seeds 0 1 2 3 4 --jobs 2 --methods Sum "DWA period=50"
"""

_SHORT_RUNS = """\
Train the demo's three detectors for a few iterations with every combiner of gradients, or with
those named, and see whether every training is finite and its losses fall.

Finished trainings are kept when called again. The exit status is 1 where one is not finite,
does not fall, or fails."""

_SHORT_RUNS_EXAMPLES = """\
what is written, in work_dirs/short_runs:
  short_runs.md             a row per training, with short_runs.png
  short_runs.json           every iteration's terms, seconds, versions, machine
  <detector>/<combiner>/    the training's log

examples:
  python tools/short_runs.py
      Sum and 13 combiners on 3 detectors, 100 iterations each; about 20 minutes on 2 CPU cores
  python tools/short_runs.py --combiners MGDA PCGrad --detectors retinanet
      two trainings
  python tools/short_runs.py --boundary features --work-dir work_dirs/short_runs_features
      the same at another boundary"""


_TURNS = """\
Train with the terms taking turns, beside the plain sum, the half-weighted sum and each term
alone, with several seeds, and answer with intervals:

  is taking turns, to first order, the sum weighted by one half?
  do longer turns pass a gain on?
  does one task's training help the other?

A task trained alone has no AP, so every term's loss on the test split is measured too, and
samples of the weights say how far apart two trainings went. Finished trainings are kept and
interrupted ones (Ctrl-C) go on: call again with more seeds, lengths or methods to add them."""

_TURNS_EXAMPLES = """\
what is written, in work_dirs/turns:
  turns.md                  tables and answers, with scores.png, terms.png, apart.png
  turns.json                every number and curve, commands, versions, machine
  <method>_seed<n>/         a training: checkpoints, logs, score.json, term_losses.json

examples:
  python tools/make_demo_data.py
  python tools/turns.py --jobs 2
      turns of 1, 10 and 100 updates, seeds 0 1 2: 21 trainings of 2 to 4 minutes
  python tools/turns.py --jobs 2 --seeds 0 1 2 3 4 --also AutoLoss "Alternating inactive=zero"
      more seeds and methods, added to what is there
  python tools/turns.py --work-dir work_dirs/turns_short --cfg-options train_cfg.max_iters=200 \\
      train_cfg.val_interval=200 param_scheduler.1.end=200
      a shorter schedule
  python tools/turns.py --work-dir work_dirs/turns_sgd --cfg-options \\
      optim_wrapper.optimizer.type=SGD optim_wrapper.optimizer.lr=0.02 \\
      optim_wrapper.optimizer.weight_decay=1e-4
      plain gradient steps, of which the claim about one half is made
"""


_AVJ = """\
Train a two-stage detector in four alternating steps and jointly, on the same data and from the
same initial weights, over several seeds, and compare: AP after step 2 and after step 4, the
RPN's recall before and after step 3, times of every stage and proposal pass, memory.

The joint training is run at two budgets: the config's, in the papers' proportion (70k x 2 images
against 80k / 40k / 80k / 40k x 1 / 2 / 1 / 2), and at equal compute, with as many image passes as
the alternating one. Finished trainings are kept, interrupted ones (Ctrl-C) go on at their stage
and iteration: call again, with more seeds to add some."""

_AVJ_EXAMPLES = """\
what is written, in work_dirs/alternating_vs_joint:
  alternating_vs_joint.md     tables and verdicts, with stages.png and differences.png
  alternating_vs_joint.json   every number, every training's record, commands, versions, machine
  <way>_seed<n>/              a training: its checkpoints, proposals, logs and record.json

examples:
  python tools/make_demo_data.py
  python tools/alternating_vs_joint.py CONFIG --seeds 3
      seeds 0, 1 and 2, one training at a time, so that their times can be compared
  python tools/alternating_vs_joint.py CONFIG --seeds 5 --jobs 2
      two seeds more, two trainings at a time
  python tools/alternating_vs_joint.py CONFIG --seeds 1 --no-equal --work-dir work_dirs/look \\
      --cfg-options schedule.rpn.iterations=20 schedule.rcnn.iterations=10 \\
      schedule.joint.iterations=9
      only to see it run
"""


def _parser(description: str, epilog: str) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        description=description, epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def demo(arguments: Sequence[str] | None = None) -> None:
    """``tools/demo.py``: see its ``--help``.

    Raises:
        LossweaveError: wrong input, before anything is trained.
    """
    standard = Demo()
    parser = _parser(_DEMO, _DEMO_EXAMPLES)
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
        "--seed", type=int, default=0, help="of initial weights and data order (%(default)s)"
    )
    parser.add_argument(
        "--iterations", type=int, help="length of a training; schedules follow (the config's)"
    )
    parser.add_argument(
        "--data-root", help="folder of the data, made there if there is none (the config's)"
    )
    parser.add_argument("--work-dir", default=standard.work_dir, help="(%(default)s)")
    parser.add_argument("--fresh", action="store_true", help="discard earlier trainings first")
    args = parser.parse_args(arguments)
    options = {**vars(args), "combiners": tuple(args.combiners)}
    run_demo(Demo(command=_command("demo", arguments), **options))


def benchmark(arguments: Sequence[str] | None = None) -> None:
    """``tools/benchmark.py``: see its ``--help``.

    Raises:
        LossweaveError: wrong input, before anything is measured.
    """
    standard = Benchmark()
    parser = _parser(_BENCHMARK, _BENCHMARK_EXAMPLES)
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
        "--rounds", type=int, default=standard.rounds, help="paired ABBA rounds (%(default)s)"
    )
    parser.add_argument(
        "--repeats",
        type=int,
        default=standard.repeats,
        help="repetitions of the cost alone (%(default)s)",
    )
    parser.add_argument(
        "--batch-size", type=int, default=standard.batch_size, help="pictures a step (%(default)s)"
    )
    parser.add_argument("--threads", type=int, help="torch threads (torch's own choice)")
    parser.add_argument(
        "--device", help="cpu or cuda (cuda if there is one); on cuda, detectors of full size"
    )
    parser.add_argument(
        "--boundaries",
        metavar="NAME",
        help="measure this combiner of gradients at every boundary instead (PCGrad is cheap)",
    )
    parser.add_argument(
        "--work-dir", help=f"({standard.work_dir}; with --boundaries work_dirs/boundaries)"
    )
    args = vars(parser.parse_args(arguments))
    command = _command("benchmark", arguments)
    boundaries = args.pop("boundaries")
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
    args["work_dir"] = args["work_dir"] or standard.work_dir
    args["detectors"] = tuple(args["detectors"])
    args["combiners"] = tuple(args["combiners"]) if args["combiners"] else None
    run_benchmark(Benchmark(command=command, **args))


def compare(arguments: Sequence[str] | None = None) -> None:
    """``tools/compare.py``: see its ``--help``.

    Raises:
        LossweaveError: wrong input, before anything is trained, or a training that failed.
    """
    parser = _parser(_COMPARE, _COMPARE_EXAMPLES)
    parser.add_argument("--methods", nargs="+", required=True, metavar="METHOD")
    parser.add_argument(
        "--rates",
        nargs="+",
        type=float,
        default=[],
        metavar="LR",
        help="learning rates to choose from, for every method; trained in this order "
        "(the config's for all)",
    )
    _add_trainings(parser, Comparison.work_dir)
    args = parser.parse_args(arguments)
    run_comparison(
        Comparison(
            methods=tuple(Method.parse(text) for text in args.methods),
            rates=tuple(args.rates),
            **_trainings(args, "compare", arguments),
        )
    )


def short_runs(arguments: Sequence[str] | None = None) -> None:
    """``tools/short_runs.py``: see its ``--help``.

    Raises:
        LossweaveError: wrong input, before anything is trained.
        SystemExit: a training is not as it should be.
    """
    standard = ShortRuns()
    parser = _parser(_SHORT_RUNS, _SHORT_RUNS_EXAMPLES)
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
        "--iterations", type=int, default=standard.iterations, help="of a training (%(default)s)"
    )
    parser.add_argument(
        "--batch-size", type=int, default=standard.batch_size, help="pictures (%(default)s)"
    )
    parser.add_argument(
        "--boundary", metavar="WHERE", help="where gradients are combined (each combiner's own)"
    )
    parser.add_argument("--seed", type=int, default=standard.seed, help="(%(default)s)")
    parser.add_argument("--work-dir", default=standard.work_dir, help="(%(default)s)")
    parser.add_argument("--fresh", action="store_true", help="discard earlier trainings first")
    args = vars(parser.parse_args(arguments))
    args["combiners"] = tuple(args["combiners"]) if args["combiners"] else None
    args["detectors"] = tuple(args["detectors"])
    runs = run_short_runs(ShortRuns(command=_command("short_runs", arguments), **args))
    if not all(run.good for run in runs):
        sys.exit(1)


def turns(arguments: Sequence[str] | None = None) -> None:
    """``tools/turns.py``: see its ``--help``.

    Raises:
        LossweaveError: wrong input, before anything is trained, or a training that failed.
    """
    parser = _parser(_TURNS, _TURNS_EXAMPLES)
    parser.add_argument(
        "--lengths",
        nargs="+",
        type=int,
        default=list(Turns.lengths),
        metavar="UPDATES",
        help="of the turns (1 10 100)",
    )
    parser.add_argument(
        "--also",
        nargs="+",
        default=[],
        metavar="METHOD",
        help="further combiners, with their options in quotes",
    )
    _add_trainings(parser, Turns.work_dir)
    args = parser.parse_args(arguments)
    run_turns(
        Turns(
            lengths=tuple(args.lengths),
            also=tuple(args.also),
            **_trainings(args, "turns", arguments),
        )
    )


def alternating_vs_joint(arguments: Sequence[str] | None = None) -> None:
    """``tools/alternating_vs_joint.py``: see its ``--help``.

    Raises:
        LossweaveError: wrong input, before anything is trained, or a training that failed.
    """
    parser = _parser(_AVJ, _AVJ_EXAMPLES)
    parser.add_argument("config", help="of an alternating training; a path or package::path")
    parser.add_argument(
        "--seeds", type=int, default=3, metavar="N", help="how many: 0 to N - 1 (%(default)s)"
    )
    parser.add_argument(
        "--no-equal", action="store_true", help="leave out the joint training at equal compute"
    )
    _add_processes(parser, Study.work_dir)
    args = parser.parse_args(arguments)
    if args.seeds < 1:
        raise LossweaveError(f"--seeds={args.seeds} should be at least 1")
    args.seeds = range(args.seeds)
    run_study(Study(equal=not args.no_equal, **_trainings(args, "alternating_vs_joint", arguments)))


def _add_trainings(parser: argparse.ArgumentParser, work_dir: str) -> None:
    """The options of every study that trains with several seeds."""
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="(0 1 2)")
    parser.add_argument(
        "--config", default=DEFAULT_CONFIG, help="a path or package::path (%(default)s)"
    )
    _add_processes(parser, work_dir)


def _add_processes(parser: argparse.ArgumentParser, work_dir: str) -> None:
    """How and where a study's trainings run."""
    parser.add_argument(
        "--jobs", type=int, default=1, help="trainings at a time, sharing the cores (%(default)s)"
    )
    parser.add_argument("--work-dir", default=work_dir, help="(%(default)s)")
    parser.add_argument(
        "--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", help="the same for all"
    )


def _trainings(
    args: argparse.Namespace, tool: str, arguments: Sequence[str] | None
) -> dict[str, Any]:
    """What these options mean to any such study."""
    return dict(
        seeds=tuple(args.seeds),
        config=args.config,
        work_dir=args.work_dir,
        jobs=args.jobs,
        options=tuple(args.cfg_options),
        command=_command(tool, arguments),
    )


def _command(tool: str, arguments: Sequence[str] | None) -> str:
    given = list(sys.argv[1:] if arguments is None else arguments)
    return shlex.join(["python", f"tools/{tool}.py", *given])
