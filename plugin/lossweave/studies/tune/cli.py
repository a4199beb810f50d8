"""The command line of ``tools/tune.py``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lossweave.errors import LossweaveError
from lossweave.studies.options import add_ledger, command_line, ledger_of, tool_parser
from lossweave.studies.tune.child import INTO
from lossweave.studies.tune.framework import framework_for
from lossweave.studies.tune.sampling import SAMPLERS
from lossweave.studies.tune.search import Tuning
from lossweave.studies.tune.space import Space
from lossweave.studies.tune.study import Ending, run_grid, run_tune

__all__ = ["tune"]

_DESCRIPTION = """\
Finds the weights of the sum of losses, and the learning rate, for any config of MMDetection or of
Detectron2 (yaml and lazy).

Searched are the ratios of the terms' weights (as powers of 2; the weights' sum is held, so that
clipping and Adam's epsilon do not answer in their place) together with the rate. All trainings
are paired: the same first weights and the same draws. Each is looked at at its rungs, under the
whole training's schedule, and is stopped when its difference to the best so far is below zero by
more than its error: of the pictures' choice (a jackknife), and of how far differences still moved
in the trainings that were finished. What goes on goes on from its checkpoint, exactly.

It ends in a config that inherits from yours, with the weights in its own keys where all terms have
some (so that it takes no plugin to train it), else with Sum(weights); and, over
seeds that the search has not seen, in the paired difference to your config and one sentence
about it. "No difference could be shown" is one."""

_EXAMPLES = """\
what is written, in work_dirs/tune_<config>:
  tuned.py         your config with what was found; tuned.yaml for one of Detectron2's yaml configs
  tune.md          the report, with search.png and front.png
  tune.json        every number
  ledger.jsonl     a line a rung; tools/results.py makes the report anew from it
  study.log        Optuna's journal: optuna-dashboard shows it
  points/ confirm/ the trainings

examples:
  python tools/tune.py configs/mmdet/demo/retinanet_screen.py --budget 8
      8 trainings' worth of search and 2 x 3 to confirm it; about 15 minutes on one free core
  python tools/tune.py detectron2://COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml --budget 4
      the same for Detectron2; the score is of DATASETS.TEST, the keys are those of RPN and RoI head
  python tools/tune.py CONFIG --budget 8 --resume
      goes on after a stop; in a second terminal, or on another machine with the same folder
      (with --join), it is a second worker
  python tools/tune.py CONFIG --start 2 0.5 --prefer loc --search weights
      from other weights; the score is AP75; the config's rate stays
  python tools/tune.py CONFIG --diagnosis work_dirs/diagnose/diagnosis.json
      from the static weights that tools/diagnose.py found
  python tools/tune.py configs/mmdet/demo/retinanet_screen.py --grid 1 --rates -2 1
      the truth to compare with: 7 x 4 trainings, and searches that are replayed from them
"""
_METRICS = {"ap": "ap", "cls": "ap50", "loc": "ap75"}


def tune(arguments: Sequence[str] | None = None) -> None:
    """``tools/tune.py``: see its ``--help``.

    Raises:
        LossweaveError: wrong input, before anything is trained, or a training that failed.
    """
    args = _parser().parse_args(arguments)
    _check(args)
    jobs, asked = args.jobs, command_line("tune", arguments)
    framework = framework_for(args.config)
    setting = framework.setting_of(args.config, args.cfg_options, args.seed, asked, jobs)
    keys = framework.find_keys(args.config, args.cfg_options)
    searched = args.search.split(",")
    terms = tuple(keys.terms)
    space = Space(
        terms=terms,
        start=_start(args, terms),
        rate=setting.rate,
        octaves=args.octaves if "weights" in searched else 0.0,
        rate_octaves=tuple(args.rates) if "lr" in searched else (0.0, 0.0),
        steps=args.grid,
    )
    stem = Path(args.config.split("::")[-1]).stem
    tuning = Tuning(
        setting=setting,
        space=space,
        fractions=tuple(args.rungs),
        budget=args.budget,
        metric=_METRICS[args.prefer],
        sampler=args.sampler,
        sampler_seed=args.sampler_seed,
        work_dir=args.work_dir or f"work_dirs/{'grid' if args.grid else 'tune'}_{stem}",
        ledger=ledger_of(args),
        race=not args.no_race,
    )
    if args.grid:
        run_grid(tuning, _replays(tuning, args.replays))
    else:
        run_tune(tuning, keys, Ending(args.into, args.confirm, args.join), args.resume)


def _parser() -> argparse.ArgumentParser:
    parser = tool_parser(_DESCRIPTION, _EXAMPLES)
    add = parser.add_argument
    add("config", help="of either framework; a path or package::path")
    add("--budget", type=float, default=8.0, help="in full trainings, at least 2 (%(default)g)")
    add("--prefer", choices=sorted(_METRICS), default="ap",
        help="score by AP, by AP50 (cls) or by AP75 (loc) (%(default)s)")  # fmt: skip
    add("--search", default="weights,lr", help="weights, lr, or both (%(default)s)")
    add("--start", nargs="+", type=float, metavar="W", help="weights to start from, one a term (1)")
    add("--diagnosis", metavar="FILE", help="start from the static weights of tools/diagnose.py")
    add("--octaves", type=float, default=3.0,
        help="ratios go from 2^-OCTAVES to 2^OCTAVES (%(default)g)")  # fmt: skip
    add("--rates", nargs=2, type=float, default=[-2.0, 2.0], metavar=("LOW", "HIGH"),
        help="rates go from 2^LOW to 2^HIGH times the config's (-2 2)")  # fmt: skip
    add("--rungs", nargs="+", type=float, default=[0.75],
        help="parts of a training at which it is looked at (0.75)")  # fmt: skip
    add("--no-race", action="store_true", help="train every point to its end")
    add("--sampler", choices=SAMPLERS, default="gp", help="who suggests points (%(default)s)")
    add("--sampler-seed", type=int, default=0, help="of the suggestions (%(default)s)")
    add("--seed", type=int, default=0, help="of all trainings of the search (%(default)s)")
    add("--confirm", type=int, default=3, metavar="SEEDS",
        help="further seeds for tuned and untuned, 0 for none (%(default)s)")  # fmt: skip
    add("--into", choices=INTO, default="auto",
        help="where the weights are written: loss_weight keys, Sum(weights), or the first where "
        "all terms have one (%(default)s)")  # fmt: skip
    add("--resume", action="store_true", help="go on with a search, or join it as a worker")
    add("--join", action="store_true", help="with --resume: search, and leave the end to another")
    add("--jobs", type=int, default=1, help="trainings that share the cores (%(default)s)")
    add("--work-dir", help="(work_dirs/tune_<config>)")
    add("--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", help="the same for all")
    group = parser.add_argument_group("a full grid, to compare searches with")
    group.add_argument("--grid", type=float, metavar="STEP", help="its spacing, as a power of 2")
    group.add_argument("--replays", type=int, default=5, help="seeds of searches (%(default)s)")
    add_ledger(parser)
    return parser


def _check(args: argparse.Namespace) -> None:
    words = args.search.split(",")
    if not set(words) <= {"weights", "lr"}:
        raise LossweaveError(f"--search {args.search!r} should be weights, lr or weights,lr")
    if not args.octaves > 0:
        raise LossweaveError(f"--octaves {args.octaves:g} is not above 0")
    if not args.rates[0] <= 0 <= args.rates[1] or args.rates[0] == args.rates[1]:
        low, high = args.rates
        raise LossweaveError(f"--rates {low:g} {high:g}: the config's own, 0, should lie between")
    if args.confirm < 0 or args.jobs < 1 or args.replays < 1:
        raise LossweaveError("--confirm is at least 0, --jobs and --replays at least 1")
    if args.grid is not None and not args.grid > 0:
        raise LossweaveError(f"--grid {args.grid:g} is not above 0")
    if args.start and args.diagnosis:
        raise LossweaveError("--start and --diagnosis exclude each other")
    if args.join and not args.resume:
        raise LossweaveError("--join joins a search that is there: with --resume")
    if args.plan:
        raise LossweaveError("--plan: what a search trains is not known before")


def _start(args: argparse.Namespace, terms: tuple[str, ...]) -> tuple[float, ...]:
    """The weights at which all ratios are 0."""
    if args.diagnosis:
        try:
            found = json.loads(Path(args.diagnosis).read_text())["static_weights"]
            return tuple(float(found[term]) for term in terms)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise LossweaveError(
                f"--diagnosis {args.diagnosis}: no static_weights of {', '.join(terms)} ({error})"
            ) from None
    if args.start:
        if len(args.start) != len(terms):
            raise LossweaveError(
                f"--start: {len(args.start)} weights for the terms {', '.join(terms)}"
            )
        return tuple(args.start)
    return (1.0,) * len(terms)


def _replays(tuning: Tuning, seeds: int) -> list[Tuning]:
    """Searches of a grid: the raced one, and at random with and without rungs."""
    kinds = (dict(sampler="gp", race=True), dict(sampler="random", race=False),
             dict(sampler="random", race=True), dict(sampler="gp", race=False))  # fmt: skip
    return [
        replace(tuning, sampler_seed=seed, **kind)  # type: ignore[arg-type]
        for kind in kinds
        for seed in range(seeds)
    ]
