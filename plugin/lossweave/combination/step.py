"""What one training forward gave: read by hooks and logs, never changed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor

from lossweave.combination.tree import Evaluation

__all__ = ["Applied", "OwnTotal", "StepResult"]


@dataclass
class Applied:
    """The weights that a combiner of gradients applied: known since its backward pass."""

    weights: list[float] | None = None


class OwnTotal(NamedTuple):
    """The loss that a detector's own method makes of the raw losses, beside their sum.

    Args:
        method: its name.
        total: what it returns.
        added: the sum.
        slack: by how much the two may differ, by rounding.
    """

    method: str
    total: Tensor
    added: Tensor
    slack: Tensor


@dataclass(frozen=True, eq=False)
class StepResult:
    """The result of one training forward.

    Args:
        entries: the raw losses by name, detached scalars of this rank.
        values: of the terms, over all ranks, shape ``(number of terms,)``, 0 where absent; None
            where the framework's own sum was returned as it is.
        present: which terms there are.
        evaluation: what the combiners made of them.
        weights: the terms'; 0 in an update that is to be skipped.
        fine: whether everything in it is finite on all ranks, on the device; None where nobody
            asks.
        active: which terms take part in this update.
        applied: the outermost terms' weights since the backward pass, where gradients are
            combined.
        again: the raw losses of the same batch, measured again without gradients, where the
            framework's hook could not do that itself.
        own: the detector's own total, where a method of its own makes one and it is not taken.
    """

    entries: Mapping[str, Tensor]
    values: Tensor | None = None
    present: Tensor | None = None
    evaluation: Evaluation | None = None
    weights: Tensor | None = None
    fine: Tensor | None = None
    active: tuple[bool, ...] = ()
    applied: Applied = field(default_factory=Applied)
    again: Callable[..., Mapping[str, Any]] | None = None
    own: OwnTotal | None = None
