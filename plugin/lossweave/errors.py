"""The one error that wrong input raises."""

__all__ = ["LossweaveError"]


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
