"""Hooks of a user's on a detector's parameters, features, losses and modules, and what they saw."""

from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn


class UserHooks:
    """Counts the calls of its hooks, some of which scale what they see.

    Args:
        model: the detector.
        watched: the module whose outputs are its features.
        head: a module that takes the features, or one of them.
        factor: what the hooks on the features scale gradients by.
    """

    def __init__(self, model: nn.Module, watched: str, head: str, factor: float = 1.0) -> None:
        self.calls: Counter[str] = Counter()
        self.tensors: Counter[str] = Counter()
        self.factor = factor
        modules = dict(model.named_modules())
        modules[watched].register_forward_hook(lambda m, i, o: self._on("below", o))
        modules[head].register_forward_pre_hook(lambda m, i: self._on("features", i))

    def _on(self, name: str, value: Any) -> None:
        if isinstance(value, Tensor):
            if value.requires_grad and torch.is_grad_enabled():
                self.tensors[name] += 1
                value.register_hook(self.hook(name, self.factor if name == "features" else 1.0))
        elif isinstance(value, dict):
            self._on(name, list(value.values()))
        elif isinstance(value, list | tuple):
            for part in value:
                self._on(name, part)

    def hook(self, name: str, factor: float = 1.0) -> Any:
        """A hook that is counted under this name."""

        def called(grad: Tensor) -> Tensor:
            self.calls[name] += 1
            return factor * grad

        return called

    def on_module(self, module: nn.Module, name: str) -> None:
        """A full backward hook."""
        module.register_full_backward_hook(lambda m, i, o: self.calls.update([name]))

    def on_losses(self, losses: dict[str, Any]) -> None:
        """A hook on each loss that has a gradient."""
        for value in losses.values():
            self._on("losses", value)
