"""Command lines that are refused in one line, and what their words mean."""

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

from lossweave.errors import LossweaveError

__all__ = ["OneLineParser", "parse_terms"]


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


def parse_terms(words: Sequence[str] | None) -> Any:
    """What ``--terms`` means: one word, or NAME=PATTERN,PATTERN ...

    Example:
        >>> parse_terms(["a=loss_cls", "b=loss_bbox,?loss_l1"])
        {'a': ['loss_cls'], 'b': ['loss_bbox', '?loss_l1']}
    """
    if not words:
        return None
    if len(words) == 1 and "=" not in words[0]:
        return words[0]
    terms = {}
    for word in words:
        name, equals, patterns = word.partition("=")
        if not equals or not patterns:
            raise LossweaveError(f"--terms: {word!r} should be NAME=PATTERN[,PATTERN...]")
        if name in terms:
            raise LossweaveError(f"--terms: {name!r} is there twice; write {name}=A,B")
        terms[name] = patterns.split(",")
    return terms
