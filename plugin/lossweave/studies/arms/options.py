"""The options that every study of arms has."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from lossweave.studies.arms.arm import Asked
from lossweave.studies.options import (
    add_ledger,
    add_processes,
    command_line,
    ledger_of,
)
from lossweave.utils.arguments import typed
from lossweave.utils.fields import COUNT, SEED

__all__ = ["add_arms", "asked_of"]


def add_arms(
    parser: argparse.ArgumentParser, config: str, work_dir: str, iterations: int | None
) -> None:
    """Seeds, config, length of the trainings, where they go, and the ledger.

    Args:
        parser: of the study's tool.
        config: the default one.
        work_dir: the default one.
        iterations: the default; None means the config's.
    """
    parser.add_argument(
        "--seeds", nargs="+", type=typed(SEED), default=[0, 1, 2], help="(0 1 2)"
    )
    parser.add_argument("--config", default=config, help="a path or package::path (%(default)s)")
    parser.add_argument(
        "--iterations",
        type=typed(COUNT),
        default=iterations,
        help=f"of a training ({iterations or 'as the config has it'})",
    )
    add_processes(parser, work_dir)
    add_ledger(parser)


def asked_of(args: argparse.Namespace, tool: str, arguments: Sequence[str] | None) -> Asked:
    """What these options mean.

    Raises:
        LossweaveError: a seed is there twice.
    """
    return Asked(
        config=args.config,
        work_dir=args.work_dir,
        seeds=tuple(args.seeds),
        iterations=args.iterations,
        jobs=args.jobs,
        options=tuple(args.cfg_options),
        command=command_line(tool, arguments),
        ledger=ledger_of(args),
    )
