"""What is kept of the terms' rows from one update to the next, element by element."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lossweave.errors import LossweaveError

__all__ = ["RowMemory"]


class RowMemory(nn.Module):
    """A matrix of K rows over all trained parameters, as a buffer.

    It has its size from the first backward on, whatever terms that one lacks, and takes its new
    values when the update ends. A checkpoint of before that has none; one of after brings it along.

    Args:
        count: number of terms K.

    Example:
        >>> memory = RowMemory(2)
        >>> memory.open([torch.ones(3), torch.ones(1)])
        >>> memory.of(1)
        tensor([[0.],
                [0.]])
        >>> memory.stage(1, torch.tensor([[2.0], [5.0]]))
        >>> memory.commit()
        >>> memory.rows.tolist()
        [[0.0, 0.0, 0.0, 2.0], [0.0, 0.0, 0.0, 5.0]]
    """

    rows: Tensor

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count
        self._slices: list[slice] = []
        self._staged: dict[int, Tensor] = {}

    def open(self, parameters: Sequence[Tensor]) -> None:
        """Take its size from these parameters, or see that it has it.

        Raises:
            LossweaveError: what it remembers is of others.
        """
        start, self._slices = 0, []
        for parameter in parameters:
            self._slices.append(slice(start, start + parameter.numel()))
            start += parameter.numel()
        if "rows" not in self._buffers:
            precise = [torch.promote_types(p.dtype, torch.float32) for p in parameters]
            dtype = torch.float64 if torch.float64 in precise else torch.float32
            made = torch.zeros(self.count, start, dtype=dtype, device=parameters[0].device)
            self.register_buffer("rows", made)
        elif self.rows.shape != (self.count, start):
            raise LossweaveError(
                f"what is remembered of gradients has {self.rows.shape[1]} elements a term, but "
                f"the trained parameters have {start}: it was learned with others frozen, or "
                "without the model; begin anew (loaded_state='leave'), or hand over the model"
            )

    def of(self, parameter: int) -> Tensor:
        """What is remembered of a parameter, by its number, shape ``(K, n)``."""
        return self.rows[:, self._slices[parameter]]

    def stage(self, parameter: int, rows: Tensor) -> None:
        """Let it be this once the update ends; the last one told counts."""
        self._staged[parameter] = rows

    def commit(self) -> None:
        """The update has ended."""
        for parameter, rows in self._staged.items():
            self.of(parameter).copy_(rows)
        self._staged.clear()

    def forget_staged(self) -> None:
        """The update is not going to happen, or begins."""
        self._staged.clear()

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        stored = state_dict.get(f"{prefix}rows")
        if stored is not None:
            kept = self._buffers.get("rows")
            if kept is None or kept.shape != stored.shape:
                device = stored.device if kept is None else kept.device
                self.register_buffer("rows", torch.zeros_like(stored, device=device))
        elif "rows" in self._buffers:
            del self._buffers["rows"]  # of before the first backward
        super()._load_from_state_dict(state_dict, prefix, *args)
