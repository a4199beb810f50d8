"""The errors that wrong input and failed trainings raise, and the exit statuses they end in."""

__all__ = [
    "EXIT_DIVERGED",
    "EXIT_INTERRUPTED",
    "EXIT_WRONG_INPUT",
    "LossweaveError",
    "NonFiniteLossError",
]

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
