"""The errors that wrong input and failed trainings raise, and the exit statuses they end in."""

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = [
    "EXIT_DIVERGED",
    "EXIT_INTERRUPTED",
    "EXIT_WRONG_INPUT",
    "LossweaveError",
    "NonFiniteLossError",
    "one_line",
    "wrong_input",
]

#: Letters of another's message that are shown.
_SHOWN = 400

#: Exit statuses of the tools, for whoever starts them as processes.
EXIT_WRONG_INPUT = 2
EXIT_DIVERGED = 3
EXIT_INTERRUPTED = 130


class LossweaveError(ValueError):
    """Wrong configuration or an impossible request, said in one clear line.

    The tools print the message and stop with exit status 2; under the
    frameworks' own tools it is the last line of the traceback.

    Example:
        >>> raise LossweaveError("unknown combiner 'Summ'; did you mean 'Sum'?")
        Traceback (most recent call last):
        ...
        lossweave.errors.LossweaveError: unknown combiner 'Summ'; did you mean 'Sum'?
    """


class NonFiniteLossError(LossweaveError):
    """A training diverged: a loss, a gradient or a weight is not finite.

    The tools print the message and stop with exit status 3, so that a study can tell a training
    that diverged from one that was asked for wrongly.
    """


def one_line(error: BaseException) -> str:
    """An exception of whatever kind in one line.

    Example:
        >>> one_line(KeyError("x")), one_line(ValueError("a\\nb")), one_line(AssertionError())
        ("KeyError: 'x'", 'ValueError: a b', 'AssertionError')
    """
    text = " ".join(str(error).split())
    text = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


@contextmanager
def wrong_input(where: str = "") -> Iterator[None]:
    """A time in which nothing is trained yet, so that whatever fails was asked for wrongly.

    Args:
        where: what was asked, the name of a config say, to begin the line with.

    Raises:
        LossweaveError: in place of any other exception, in one line.

    Example:
        >>> with wrong_input("x.py"):
        ...     {}["model"]
        Traceback (most recent call last):
        ...
        lossweave.errors.LossweaveError: x.py: KeyError: 'model'
    """
    try:
        yield
    except LossweaveError:
        raise
    except Exception as error:
        raise LossweaveError(": ".join(filter(None, (where, one_line(error))))) from error
