"""Command lines that are refused in one line, and what their words mean."""

import argparse
import ast
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch

from lossweave.errors import LossweaveError
from lossweave.utils.fields import check_value

__all__ = [
    "OneLineParser", "device", "folder", "parse_terms", "setting", "typed",
]  # fmt: skip



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


def typed(hint: Any) -> Callable[[str], Any]:
    """What a word of the command line must be, for ``type=`` of an argument.

    Args:
        hint: a number's, with its range.

    Example:
        >>> from lossweave.utils.fields import COUNT
        >>> parser = OneLineParser(prog="train.py")
        >>> _ = parser.add_argument("--jobs", type=typed(COUNT))
        >>> parser.parse_args(["--jobs", "0"])
        Traceback (most recent call last):
        ...
        lossweave.errors.LossweaveError: argument --jobs: 0 should be between 1 and 1000000000 \
(--help lists what train.py takes)
    """

    def read(word: str) -> Any:
        try:
            value = float(word) if word.strip().lower() in _NO_NUMBERS else ast.literal_eval(word)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            value = word
        try:
            check_value("", value, hint)
        except LossweaveError as error:
            raise argparse.ArgumentTypeError(str(error).removeprefix("=")) from None
        return value

    return read


#: Words for numbers that are none in Python's own spelling.
_NO_NUMBERS = ("inf", "+inf", "-inf", "infinity", "nan")


def device(word: str) -> str:
    """A device of this machine that computes here, for ``type=`` of an argument.

    Example:
        >>> device("cpu")
        'cpu'
        >>> device("cuda:99")
        Traceback (most recent call last):
        ...
        argparse.ArgumentTypeError: cuda:99 is not there: this machine has ...
    """
    kind, _, number = word.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdecimal()):
        raise argparse.ArgumentTypeError(f"{word!r} should be cpu, cuda or cuda:NUMBER")
    cards = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if kind == "cuda" and int(number or 0) >= cards:
        have = f"{cards} CUDA card{'s' * (cards != 1)}" if cards else "no CUDA card"
        raise argparse.ArgumentTypeError(f"{word} is not there: this machine has {have}")
    return word


def setting(word: str) -> str:
    """A word that overrides one of a config's settings, for ``type=`` of an argument."""
    key, equals, _ = word.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"{word!r} should be KEY=VALUE")
    return word


def folder(word: str) -> str:
    """A folder that is there or can be made, for ``type=`` of an argument.

    Example:
        >>> folder("work_dirs/new")
        'work_dirs/new'
    """
    if not word or "\0" in word:
        raise argparse.ArgumentTypeError(f"{word!r} is the name of no folder")
    path = Path(word)
    there = next((each for each in (path, *path.parents) if os.path.lexists(each)), Path("."))
    if not there.is_dir():
        raise argparse.ArgumentTypeError(f"{word!r} cannot be a folder: {there} is a file")
    if not os.access(there, os.W_OK | os.X_OK):
        raise argparse.ArgumentTypeError(f"{word!r} cannot be written to")
    return word
