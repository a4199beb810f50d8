"""The tools ``tools/train.py`` and ``tools/test.py``, for both frameworks."""

import importlib
import os
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from lossweave.cli.options import parse_test, parse_train
from lossweave.errors import (
    EXIT_DIVERGED,
    EXIT_INTERRUPTED,
    EXIT_WRONG_INPUT,
    LossweaveError,
    NonFiniteLossError,
    one_line,
)
from lossweave.host.paths import framework_of

__all__ = ["run", "test", "train"]

#: Set to anything, it shows where an error comes from.
_DEBUG = "LOSSWEAVE_TRACEBACK"


def run(main: Callable[[], Any]) -> None:
    """Run a tool: what ends it is one line on standard error and an exit status.

    Wrong input ends with status 2, and so does a file that is gone, a picture in the midst of a
    training say; a training that diverged ends with 3, an interrupted one with 130.
    With LOSSWEAVE_TRACEBACK=1 in the environment the line comes with its traceback.

    Args:
        main: the tool.
    """
    try:
        main()
    except LossweaveError as error:
        diverged = isinstance(error, NonFiniteLossError)
        _end(str(error), EXIT_DIVERGED if diverged else EXIT_WRONG_INPUT)
    except FileNotFoundError as error:
        _end(_gone(error))
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)


def _end(message: str, status: int = EXIT_WRONG_INPUT) -> NoReturn:
    if os.environ.get(_DEBUG):
        traceback.print_exc()
    print(f"error: {message}", file=sys.stderr)
    sys.exit(status)


def _gone(error: FileNotFoundError) -> str:
    """The file in one line; from a data loader's process the error is the text of a traceback."""
    name = error.filename
    if name is None:
        said = re.findall(r"No such file or directory: (?:b?)(['\"])(.+?)\1\s", f"{error}\n")
        name = said[-1][1] if said else None
    return one_line(error) if name is None else f"there is no file {os.fsdecode(name)!r} (any more)"


def _adapter(config: str) -> Any:
    """The adapter's module of command lines."""
    if framework_of(config) == "mmdet":
        return importlib.import_module("lossweave.mmdet.commands")
    try:
        return importlib.import_module("lossweave.detectron2.commands")
    except ModuleNotFoundError as error:
        raise LossweaveError(
            f"{config!r} is a config of Detectron2, and {error.name} is not installed; "
            "tools/install_detectron2.py --help says how"
        ) from None


def train(arguments: Sequence[str] | None = None) -> Any:
    """``tools/train.py``: train as the framework's own tool does, with the losses combined.

    Returns:
        The framework's runner or trainer, after training.

    Raises:
        LossweaveError: wrong input, before anything is trained.
    """
    options = parse_train(arguments)
    return _adapter(options.config).train(options)


def test(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """``tools/test.py``: evaluate as the framework's own tool does.

    Returns:
        The metrics by name.

    Raises:
        LossweaveError: wrong input.
    """
    options = parse_test(arguments)
    if not Path(options.checkpoint).is_file():
        raise LossweaveError(f"there is no checkpoint {options.checkpoint!r}")
    return _adapter(options.config).test(options)
