"""What was found for 'representation', in the checkpoint."""

from typing import Any

import torch
from torch import Tensor, nn

from lossweave.backward._boundary import Boundary

__all__ = ["BoundaryState"]

#: Names of as many bytes are kept; where they are more, they are found anew after a resume.
_BYTES = 2048


class BoundaryState(nn.Module):
    """Keeps the modules found for 'representation' in the checkpoint, as the bytes of their names.

    A resumed run may begin with an iteration that lacks a term, from which they cannot be found.
    The buffer has one shape whatever was found, so that averages of models and checkpointers that
    compare shapes can have it; zeros stand for nothing.

    Args:
        boundary: whose state it is.

    Example:
        >>> boundary = Boundary("representation")
        >>> state = BoundaryState(boundary)
        >>> before = state.state_dict()["found"].shape
        >>> boundary.found = ("neck",)
        >>> state.state_dict()["found"].shape == before
        True
    """

    found: Tensor

    def __init__(self, boundary: Boundary) -> None:
        super().__init__()
        self.boundary = boundary
        self.register_buffer("found", torch.zeros(_BYTES, dtype=torch.uint8))

    def _save_to_state_dict(self, *args: Any, **kwargs: Any) -> None:
        found = self.boundary.found
        lines = [] if found is None else ["found", self.boundary.trained, *found]
        text = "\n".join(lines).encode()
        text = text if len(text) <= _BYTES else b""
        self.found.copy_(torch.tensor(list(text.ljust(_BYTES, b"\0")), dtype=torch.uint8))
        super()._save_to_state_dict(*args, **kwargs)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        lines = bytes(self.found.tolist()).rstrip(b"\0").decode().split("\n")
        self.boundary.found = None
        if lines[0]:
            self.boundary.trained, self.boundary.found = lines[1], tuple(lines[2:])
