"""How a backward shows the terms' rows to a combiner that remembers them."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from torch import Tensor

__all__ = ["Piece", "Shown"]


class Piece(NamedTuple):
    """One parameter's rows.

    Args:
        parameter: its number in the model's order.
        rows: by term, flat; where a term is not there, its row is 0.
    """

    parameter: int
    rows: Mapping[int, Tensor]


class Shown(NamedTuple):
    """What a backward shows of its rows, before they are weighed.

    Args:
        parameters: the model's, in an order that all ranks and resumed runs share.
        pieces: of the parameters that two or more terms reach, the mean over the ranks.
        scale: the factor that is in all rows, shape ``()``.
        squares: squared norms of the whole rows, without that factor, float64, shape ``(K,)``.
        beside: those of what belongs to a batch (the boundary's tensors) alone.
    """

    parameters: Sequence[Tensor]
    pieces: Sequence[Piece]
    scale: Tensor
    squares: Tensor
    beside: Tensor
