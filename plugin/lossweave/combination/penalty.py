"""A penalty on parameters as one more loss entry."""

import fnmatch
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from lossweave.errors import LossweaveError
from lossweave.utils.checked import Checked
from lossweave.utils.fields import at_least, between, near_names

__all__ = ["ParameterPenalty", "penalized", "read_penalties"]

_T = TypeVar("_T")


class ParameterPenalty(metaclass=Checked):
    r"""A penalty on the parameters of named modules: one more loss, and so a term if you like.

    .. math:: \text{l1:}\quad \lambda \sum_i |\theta_i| \qquad
        \text{l2:}\quad \tfrac{\lambda}{2} \sum_i \theta_i^2

    where :math:`\lambda` is ``weight`` and i goes over every trainable parameter of the modules,
    biases included, once each. The gradient of l2 is :math:`\lambda \theta`, what an SGD with
    ``weight_decay`` :math:`\lambda` adds by itself; AdamW's decay is another thing, since it
    stands beside the gradient and not in it. That of l1 is :math:`\lambda\,\mathrm{sign}(\theta)`,
    0 at 0.

    The entry is among the detector's losses before they are combined: no term claims it by
    itself, so it is added as it is; name it in ``terms`` to make it a term of any combiner. A
    combiner of gradients needs ``boundary='parameters'`` then, as the penalty reaches
    parameters below any other. It has no state, and does not touch checkpoints. Frozen
    parameters are left out as long as they are frozen; with all of them frozen it is 0.

    Args:
        kind: 'l1' or 'l2'.
        weight: :math:`\lambda`.
        modules: names of modules (shell-style patterns; with everything inside of them), or
            '*' for the whole model.
        name: of the loss entry.

    Raises:
        LossweaveError: a name without 'loss' in it, which the frameworks would not add up.

    Example:
        >>> model = nn.ModuleDict({"neck": nn.Linear(2, 1), "head": nn.Linear(1, 1)})
        >>> _ = [nn.init.constant_(p, 2.0) for p in model.parameters()]
        >>> ParameterPenalty("l1", weight=0.1, modules="neck")(model)
        tensor(0.6000, grad_fn=<MulBackward0>)
    """

    def __init__(
        self,
        kind: Literal["l1", "l2"] = "l2",
        weight: Annotated[float, at_least(0), between(0, 1e6)] = 1e-4,
        modules: str | Sequence[str] = "*",
        name: str = "loss_penalty",
    ) -> None:
        if "loss" not in name or name == "loss":
            raise LossweaveError(
                f"ParameterPenalty: name={name!r} should have 'loss' in it, and more than that"
            )
        self.kind, self.weight, self.name = kind, weight, name
        self.modules = (modules,) if isinstance(modules, str) else tuple(modules)
        if not self.modules:
            raise LossweaveError("ParameterPenalty: modules=[] should name at least one")

    def __call__(self, model: nn.Module) -> Tensor:
        """The penalty of a model's parameters as they are, shape ``()``, float32 or float64."""
        parameters = [p for _, p in self.of(model) if p.requires_grad]
        if not parameters:
            first = next(model.parameters())
            return torch.zeros((), device=first.device)
        sizes = [
            (p.float() if p.dtype in (torch.float16, torch.bfloat16) else p) for p in parameters
        ]
        if self.kind == "l1":
            return self.weight * torch.stack([p.abs().sum() for p in sizes]).sum()
        return self.weight / 2 * torch.stack([p.square().sum() for p in sizes]).sum()

    def of(self, model: nn.Module) -> list[tuple[str, nn.Parameter]]:
        """The parameters that are meant, frozen ones included, with their names.

        Args:
            model: the detector.
        """
        if "*" in self.modules:
            return list(model.named_parameters())
        inside = re.compile("|".join(_inside(pattern) for pattern in self.modules))
        return [(name, p) for name, p in model.named_parameters() if inside.match(name)]

    def check(self, model: nn.Module) -> None:
        """Refuse names that mean no parameter of this model.

        Args:
            model: the detector.

        Raises:
            LossweaveError: a pattern that matches no module with parameters.
        """
        names = [name for name, _ in model.named_parameters()]
        for pattern in self.modules:
            if pattern != "*" and not any(re.match(_inside(pattern), name) for name in names):
                known = [name for name, module in model.named_modules()
                         if name and any(True for _ in module.parameters())]  # fmt: skip
                raise LossweaveError(
                    f"ParameterPenalty: modules={pattern!r} matches no module with parameters; "
                    f"{near_names(pattern, known)}"
                )

    def __repr__(self) -> str:
        return (
            f"ParameterPenalty(kind={self.kind!r}, weight={self.weight!r}, "
            f"modules={list(self.modules)!r}, name={self.name!r})"
        )


def _inside(pattern: str) -> str:
    """What the names of the parameters inside of such modules begin with."""
    return fnmatch.translate(pattern).removesuffix(r"\Z").removesuffix(r"\z") + r"\."


def read_penalties(values: Any) -> tuple[ParameterPenalty, ...]:
    """Penalties from a config: none, one, or a list; each an instance or its arguments.

    Args:
        values: None, a :class:`ParameterPenalty`, a dict of its arguments (with or without its
            ``type``), or a list of such.

    Raises:
        LossweaveError: something else, arguments that cannot be, or two of one name.

    Example:
        >>> read_penalties([dict(kind="l1", weight=0.1, name="loss_sparse"), dict(weight=0.01)])
        (ParameterPenalty(kind='l1', weight=0.1, modules=['*'], name='loss_sparse'), \
ParameterPenalty(kind='l2', weight=0.01, modules=['*'], name='loss_penalty'))
    """
    listed = [] if values is None else values
    listed = list(listed) if isinstance(listed, (list, tuple)) else [listed]
    found = tuple(_read(value) for value in listed)
    names = [penalty.name for penalty in found]
    for name in names:
        if names.count(name) > 1:
            raise LossweaveError(f"penalty: two of the name {name!r}; give each its own `name`")
    return found


def _read(value: Any) -> ParameterPenalty:
    if isinstance(value, ParameterPenalty):
        return value
    if not isinstance(value, Mapping):
        raise LossweaveError(
            f"penalty={value!r} should be dict(kind='l2', weight=..., modules=...) or several"
        )
    arguments = dict(value)
    kind = arguments.pop("type", "ParameterPenalty")
    name = kind if isinstance(kind, str) else getattr(kind, "__name__", str(kind))
    if name.removeprefix("lossweave.") != "ParameterPenalty":
        raise LossweaveError(f"penalty: type={name!r} should be 'lossweave.ParameterPenalty'")
    return ParameterPenalty(**arguments)


def penalized(
    losses: Mapping[str, _T], penalties: Iterable[ParameterPenalty], model: nn.Module
) -> dict[str, _T | Tensor]:
    """A detector's losses with the penalties of its parameters among them.

    Args:
        losses: by name.
        penalties: to be added.
        model: whose parameters they are of.

    Raises:
        LossweaveError: the detector has a loss of that name.
    """
    found: dict[str, _T | Tensor] = dict(losses)
    for penalty in penalties:
        if penalty.name in found:
            raise LossweaveError(
                f"ParameterPenalty: name={penalty.name!r} is a loss of the detector's own"
            )
        found[penalty.name] = penalty(model)
    return found
