"""Gradients of many batches, kept small, so that those of any two can be multiplied."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from math import sqrt
from statistics import fmean

import torch
from torch import Tensor

from lossweave.studies.diagnose.record import Means, Table

__all__ = ["SIZE", "Sketches", "means_of", "sketch"]

#: Numbers that a gradient is kept by.
SIZE = 1 << 16
#: Batches that are kept; of more, these many chosen evenly.
_MOST = 64


def sketch(row: Tensor, size: int = SIZE) -> Tensor:
    r"""A vector's pieces of some size, added up with signs that depend on the piece alone.

    Inner products of two sketches are those of the vectors on average over the signs, with an
    error of about :math:`\|g\| \|h\| / \sqrt{size}`; a vector that is no longer is kept as it is.

    Args:
        row: any vector.
        size: of the result.

    Example:
        >>> one, other = torch.ones(4), torch.tensor([1.0, 2.0, 3.0, 4.0])
        >>> float(sketch(one) @ sketch(other))
        10.0
    """
    if row.numel() <= size:
        return torch.nn.functional.pad(row, (0, size - row.numel()))
    count = -(-row.numel() // size)
    padded = torch.nn.functional.pad(row, (0, count * size - row.numel()))
    generator = torch.Generator().manual_seed(count)
    signs = torch.randint(0, 2, (count,), generator=generator).to(row) * 2 - 1
    return signs @ padded.view(count, size)


class Sketches:
    """The terms' gradients in the batches of one stage."""

    def __init__(self) -> None:
        #: Batches that have been seen.
        self.seen = 0
        self._kept: list[Tensor] = []
        self._own: list[Table] = []
        self._chance = random.Random(0)

    def add(self, rows: Sequence[Tensor], own: Table) -> None:
        """Take one batch's.

        Args:
            rows: of each term, the whole gradient as a vector.
            own: the table of their inner products.
        """
        self.seen += 1
        place = len(self._kept)
        if place >= _MOST:
            place = self._chance.randrange(self.seen)
            if place >= _MOST:
                return
            del self._kept[place], self._own[place]
        self._kept.insert(place, torch.stack([sketch(row) for row in rows]))
        self._own.insert(place, own)

    def means(self, count: int, still: bool = False) -> Means:
        """What they say of the mean gradients.

        Args:
            count: of the terms, the first so many.
            still: whether the weights stood still meanwhile.
        """
        kept = torch.stack([one[:count] for one in self._kept]).double()
        own = [[fmean(table[i][j] for table in self._own) for j in range(count)]
               for i in range(count)]  # fmt: skip
        found = means_of(torch.einsum("aid,bjd->ijab", kept, kept).cpu(), own)
        return replace(found, still=still)


def means_of(products: Tensor, own: Table) -> Means:
    r"""The inner products of mean gradients, from those of pairs of different batches, in which
    noise cancels, with their standard errors (by leaving out a batch at a time).

    Args:
        products: :math:`\langle g_{ia}, g_{jb} \rangle` for terms i, j and batches a, b, shape
            ``(K, K, B, B)``.
        own: the mean over the batches of the inner products within one.

    Example:
        >>> alike = torch.ones(1, 1, 3, 3, dtype=torch.float64)
        >>> means_of(alike, [[1.0]])
        Means(count=3, own=[[1.0]], inner=[[1.0]], error=[[0.0]], still=False)
    """
    terms, _, batches, _ = products.shape
    inner = [[0.0] * terms for _ in range(terms)]
    error = [[0.0] * terms for _ in range(terms)]
    if batches > 2:
        apart = products * (1 - torch.eye(batches, dtype=products.dtype))
        for i in range(terms):
            for j in range(terms):
                table = apart[i, j]
                total = float(table.sum())
                inner[i][j] = total / (batches * (batches - 1))
                left = total - table.sum(0) - table.sum(1)
                without = (left / ((batches - 1) * (batches - 2))).tolist()
                middle = fmean(without)
                spread = sum((value - middle) ** 2 for value in without)
                error[i][j] = sqrt(spread * (batches - 1) / batches)
    return Means(batches, own, inner, error)
