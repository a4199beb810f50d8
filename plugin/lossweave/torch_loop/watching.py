"""A boundary above the parameters is caught in every training forward of the model."""

import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle

from lossweave.backward import Boundary
from lossweave.errors import LossweaveError

__all__ = ["Watch"]


class Watch:
    """Catches what a boundary needs whenever the model runs, by hooks on its forward.

    The model's features are what its ``backbone`` returns, as in torchvision's detectors; for
    other models the boundary names the modules whose outputs it is. The model does not keep the
    boundary: once whoever combines is gone, the hooks do nothing. A copy of the model (an average
    of its weights, say) has a watch of its own, for the copy of what combines, if there is one.

    Args:
        model: without a wrapper.
        boundary: one that needs the forward.

    Raises:
        LossweaveError: the boundary is the features, and the model has no ``backbone``; or no
            module has a name that it gives. No hook is registered then.
    """

    def __init__(self, model: nn.Module, boundary: Boundary) -> None:
        self._boundary: Callable[[], Boundary | None] = weakref.ref(boundary)
        self._open: list[AbstractContextManager[None]] = []
        boundary.refuse_unknown(model)
        #: Of the hooks.
        self.handles: list[RemovableHandle] = []
        if boundary.needs_features:
            backbone = getattr(model, "backbone", None)
            if not isinstance(backbone, nn.Module):
                raise LossweaveError(
                    f"{type(model).__name__} has no backbone whose output would be the features; "
                    "name the modules, boundary=['NAME'], or use boundary='parameters'"
                )
            self.handles.append(backbone.register_forward_hook(self.features))
        self.handles += [
            model.register_forward_pre_hook(self.enter),
            model.register_forward_hook(self.leave, always_call=True),
        ]

    def enter(self, model: nn.Module, inputs: Any) -> None:
        """Begin to catch."""
        boundary = self._boundary()
        if boundary is None:
            return
        caught = boundary.caught(model)
        caught.__enter__()
        self._open.append(caught)

    def features(self, backbone: nn.Module, inputs: Any, output: Any) -> Any:
        """What the heads get in place of the features, within the model's forward."""
        boundary = self._boundary() if self._open else None
        return output if boundary is None else boundary.features(output)

    def leave(self, model: nn.Module, inputs: Any, output: Any) -> None:
        """End it, also where the forward has failed."""
        if self._open:
            self._open.pop().__exit__(None, None, None)

    def __getstate__(self) -> dict[str, Any]:
        return {"boundary": self._boundary()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        boundary = state["boundary"]
        self._boundary = (lambda: None) if boundary is None else weakref.ref(boundary)
        self._open, self.handles = [], []
