"""A boundary above the parameters is caught in every training forward of the model."""

from contextlib import AbstractContextManager
from typing import Any

from torch import nn

from lossweave.backward import Boundary
from lossweave.errors import LossweaveError

__all__ = ["Watch"]


class Watch:
    """Catches what a boundary needs whenever the model runs, by hooks on its forward.

    The model's features are what its ``backbone`` returns, as in torchvision's detectors; for
    other models the boundary names the modules whose outputs it is. A copy of the model (an
    average of its weights, say) has a watch and a boundary of its own.

    Args:
        model: without a wrapper.
        boundary: one that needs the forward.

    Raises:
        LossweaveError: the boundary is the features, and the model has no ``backbone``.
    """

    def __init__(self, model: nn.Module, boundary: Boundary) -> None:
        self.boundary = boundary
        self._open: list[AbstractContextManager[None]] = []
        if boundary.needs_features:
            backbone = getattr(model, "backbone", None)
            if not isinstance(backbone, nn.Module):
                raise LossweaveError(
                    f"{type(model).__name__} has no backbone whose output would be the features; "
                    "name the modules, boundary=['NAME'], or use boundary='parameters'"
                )
            backbone.register_forward_hook(self.features)
        model.register_forward_pre_hook(self.enter)
        model.register_forward_hook(self.leave, always_call=True)

    def enter(self, model: nn.Module, inputs: Any) -> None:
        """Begin to catch."""
        caught = self.boundary.caught(model)
        caught.__enter__()
        self._open.append(caught)

    def features(self, backbone: nn.Module, inputs: Any, output: Any) -> Any:
        """What the heads get in place of the features, within the model's forward."""
        return self.boundary.features(output) if self._open else output

    def leave(self, model: nn.Module, inputs: Any, output: Any) -> None:
        """End it, also where the forward has failed."""
        if self._open:
            self._open.pop().__exit__(None, None, None)

    def __getstate__(self) -> dict[str, Any]:
        return {"boundary": self.boundary, "_open": []}
