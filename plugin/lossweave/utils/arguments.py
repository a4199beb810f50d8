"""Command lines that are refused in one line."""

import argparse
from typing import Any, NoReturn

from lossweave.errors import LossweaveError

__all__ = ["OneLineParser"]


class OneLineParser(argparse.ArgumentParser):
    """An argument parser whose refusal is one line, not its usage.

    Args: those of :class:`argparse.ArgumentParser`; the epilog keeps its lines.

    Raises:
        LossweaveError: by ``parse_args``, for words that do not fit.

    Example:
        >>> parser = OneLineParser(prog="train.py")
        >>> _ = parser.add_argument("--jobs", type=int)
        >>> parser.parse_args(["--jobs", "many"])
        Traceback (most recent call last):
        ...
        lossweave.errors.LossweaveError: argument --jobs: invalid int value: 'many' (--help lists \
what train.py takes)
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(*args, **kwargs)

    def error(self, message: str) -> NoReturn:
        """Refuse the words."""
        raise LossweaveError(f"{message} (--help lists what {self.prog} takes)")
