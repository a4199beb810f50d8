"""Frozen means bit-identical: weights, statistics and buffers, and nothing in the optimizer."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lossweave.errors import LossweaveError

__all__ = [
    "FrozenGuard",
    "digest",
    "drop_frozen",
    "freeze",
    "hold_eval",
    "modules_at",
    "unchanged",
]


def modules_at(model: nn.Module, paths: Iterable[str]) -> dict[str, nn.Module]:
    """The modules of a model at the given paths.

    Args:
        model: any module.
        paths: dotted, as in ``named_modules``.

    Raises:
        LossweaveError: a path leads nowhere; the message lists what stands beside.
    """
    found = {}
    for path in paths:
        here: nn.Module = model
        for name in path.split("."):
            children = dict(here.named_children())
            if name not in children:
                known = ", ".join(children) or "none"
                raise LossweaveError(f"there is no module {path!r}: {name!r} is not among {known}")
            here = children[name]
        found[path] = here
    return found


def freeze(modules: Iterable[nn.Module]) -> None:
    """No gradients for these modules, and evaluation mode: nothing in them moves.

    Their parameters then build no graph. Evaluation mode is lost whenever the whole model is
    set to training; see :func:`hold_eval`.
    """
    for module in modules:
        module.requires_grad_(False)
        for parameter in module.parameters():
            parameter.grad = None
        module.eval()


def hold_eval(modules: Iterable[nn.Module]) -> None:
    """Evaluation mode again, after ``model.train()``: normalizations keep their statistics."""
    for module in modules:
        module.eval()


def drop_frozen(optimizer: Optimizer) -> None:
    """Take what needs no gradient out of an optimizer: no state, no decay, no momentum. In place.

    To be called before learning rate schedules are built, because empty groups go, too.

    Raises:
        LossweaveError: nothing is left to train.

    Example:
        >>> net = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
        >>> freeze([net[0]])
        >>> sgd = torch.optim.SGD(net.parameters(), lr=0.1)
        >>> drop_frozen(sgd)
        >>> len(sgd.param_groups[0]["params"])
        2
    """
    for group in optimizer.param_groups:
        group["params"] = [p for p in group["params"] if p.requires_grad]
    optimizer.param_groups[:] = [group for group in optimizer.param_groups if group["params"]]
    for parameter in [p for p in optimizer.state if not p.requires_grad]:
        del optimizer.state[parameter]
    if not optimizer.param_groups:
        raise LossweaveError("everything is frozen: the optimizer has nothing to train")


def digest(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """SHA-256 of every tensor's bytes, type and shape, by name.

    Example:
        >>> one, two = torch.zeros(2), torch.tensor([0.0, -0.0])
        >>> digest({"x": one}) == digest({"x": two})
        False
    """
    found = {}
    for name, tensor in tensors.items():
        plain = tensor.detach().cpu().contiguous()
        whole = hashlib.sha256(f"{plain.dtype}{tuple(plain.shape)}".encode())
        whole.update(plain.reshape(-1).view(torch.uint8).numpy().tobytes())
        found[name] = whole.hexdigest()
    return found


def unchanged(before: Mapping[str, str], after: Mapping[str, str], what: str) -> None:
    """Check that two digests are the same.

    Args:
        before: a digest.
        after: a later one.
        what: said in the message.

    Raises:
        LossweaveError: naming what changed.
    """
    changed = [name for name in before if after.get(name) != before[name]]
    changed += [name for name in after if name not in before]
    if changed:
        raise LossweaveError(
            f"{what}: {len(changed)} of {len(before)} frozen tensors changed, e.g. {changed[0]!r}"
        )


class FrozenGuard:
    """Proves that frozen modules came out of a training as they went in.

    Args:
        modules: by name.

    Example:
        >>> norm = nn.BatchNorm1d(2)
        >>> freeze([norm])
        >>> guard = FrozenGuard({"n": norm})
        >>> _ = norm(torch.randn(4, 2))
        >>> guard.check("rpn2")
        >>> _ = norm.train()(torch.randn(4, 2))
        >>> guard.check("rpn2")
        Traceback (most recent call last):
        ...
        lossweave.errors.LossweaveError: rpn2: 3 of 5 frozen tensors changed, e.g. 'n.running_mean'
    """

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        self._modules = dict(modules)
        self._before = digest(self._tensors())

    def check(self, what: str, optimizers: Sequence[Optimizer] = ()) -> None:
        """Compare with how it was, and look for frozen weights in optimizers.

        Args:
            what: the stage, said in the message.
            optimizers: those of the training.

        Raises:
            LossweaveError: a parameter, statistic or buffer differs, or an optimizer has one.
        """
        unchanged(self._before, digest(self._tensors()), what)
        ours = {id(p): name for name, p in self._parameters()}
        for optimizer in optimizers:
            held = [p for group in optimizer.param_groups for p in group["params"]]
            for parameter in (*held, *optimizer.state):
                if id(parameter) in ours:
                    name = ours[id(parameter)]
                    raise LossweaveError(f"{what}: the optimizer holds the frozen {name!r}")

    def _parameters(self) -> Iterable[tuple[str, nn.Parameter]]:
        for prefix, module in self._modules.items():
            for name, parameter in module.named_parameters():
                yield f"{prefix}.{name}", parameter

    def _tensors(self) -> dict[str, Tensor]:
        found: dict[str, Tensor] = dict(self._parameters())
        for prefix, module in self._modules.items():
            # Buffers that a checkpoint leaves out count, too.
            found.update({f"{prefix}.{name}": b for name, b in module.named_buffers()})
        return found
