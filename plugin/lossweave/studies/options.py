"""What the command lines of several studies share."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from typing import Annotated, Any

from lossweave.studies.ledger.book import LedgerOptions
from lossweave.studies.runs.demo_data import DEFAULT_CONFIG
from lossweave.utils.arguments import OneLineParser, folder, setting, typed
from lossweave.utils.fields import COUNT, SEED, above

__all__ = [
    "add_ledger",
    "add_processes",
    "add_rates",
    "add_trainings",
    "command_line",
    "ledger_of",
    "tool_parser",
    "trainings_of",
]


def tool_parser(description: str, epilog: str) -> argparse.ArgumentParser:
    """A parser whose help keeps its lines: what the tool does above, examples below.

    A wrong option is a :class:`~lossweave.errors.LossweaveError`, as other wrong input is.
    """
    return OneLineParser(description=description, epilog=epilog)


def add_trainings(parser: argparse.ArgumentParser, work_dir: str) -> None:
    """The options of every study that trains with several seeds."""
    parser.add_argument(
        "--seeds", nargs="+", type=typed(SEED), default=[0, 1, 2], help="(0 1 2)"
    )
    parser.add_argument(
        "--config", default=DEFAULT_CONFIG, help="a path or package::path (%(default)s)"
    )
    add_processes(parser, work_dir)


def add_processes(parser: argparse.ArgumentParser, work_dir: str) -> None:
    """How and where a study's trainings run."""
    parser.add_argument(
        "--jobs",
        type=typed(COUNT),
        default=1,
        help="trainings at a time, sharing the cores (%(default)s)",
    )
    parser.add_argument("--work-dir", type=folder, default=work_dir, help="(%(default)s)")
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        type=setting,
        default=[],
        metavar="KEY=VALUE",
        help="the same for all",
    )


def add_ledger(parser: argparse.ArgumentParser) -> None:
    """Where a study's results are, and what of them counts."""
    group = parser.add_argument_group("the ledger of results")
    group.add_argument(
        "--ledger",
        nargs="+",
        default=[],
        metavar="FILE",
        help="results are read from all of these and added to the first (WORK_DIR/ledger.jsonl); "
        "what they hold is not trained again",
    )
    group.add_argument(
        "--here",
        action="store_true",
        help="train anew what is there from other code or another machine only",
    )
    group.add_argument(
        "--plan", action="store_true", help="list what is lacking, and train nothing"
    )


def add_rates(parser: argparse.ArgumentParser, told: str) -> None:
    """The learning rates that a study chooses from.

    Args:
        parser: the study's.
        told: the option's help.
    """
    parser.add_argument(
        "--rates",
        nargs="+",
        type=typed(Annotated[float, above(0)]),
        default=[],
        metavar="LR",
        help=told,
    )


def ledger_of(args: argparse.Namespace) -> LedgerOptions:
    """What the options of :func:`add_ledger` mean."""
    return LedgerOptions(tuple(args.ledger), args.here, args.plan)


def trainings_of(
    args: argparse.Namespace, tool: str, arguments: Sequence[str] | None
) -> dict[str, Any]:
    """What these options mean to any such study."""
    return dict(
        seeds=tuple(args.seeds),
        config=args.config,
        work_dir=args.work_dir,
        jobs=args.jobs,
        options=tuple(args.cfg_options),
        command=command_line(tool, arguments),
    )


def command_line(tool: str, arguments: Sequence[str] | None) -> str:
    """The command that a person typed, to be repeated; arguments of None are this process's."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    return shlex.join(["python", f"tools/{tool}.py", *given])
