"""What a diagnosed training leaves behind: its looks as plain numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["Look", "Means", "Record", "Table"]

#: K x K inner products of the terms' gradients.
Table = list[list[float]]


@dataclass(frozen=True)
class Look:
    """One optimizer update, looked at. Tables and tuples are in the order of the record's terms.

    Args:
        iteration: its last iteration, counted from 1.
        stage: the stage of training that it belongs to.
        values: the terms'.
        present: which terms there were.
        shared: over the parameters that two or more terms reach.
        whole: over all parameters.
        features: at the detector's features; None where it has none that are known.
        parts: over the parameters of each part of the model, by its name.
        sgd: of the parts of an SGD step that are the terms': gradients times learning rates.
        adam: of those of an Adam step: divided by its denominators, too.
        effects: what the step that was made did to each term, to first order; below 0 it fell.
        norm: the length of the whole gradient, before clipping.
        clipped: the share of it that clipping left.
        rate: the largest learning rate.
        tiny: the share of the parameters for which Adam's epsilon counts; 0 without Adam.
    """

    iteration: int
    stage: str
    values: list[float]
    present: list[bool]
    shared: Table
    whole: Table
    features: Table | None
    parts: dict[str, Table]
    sgd: Table
    adam: Table
    effects: list[float]
    norm: float
    clipped: float
    rate: float
    tiny: float


@dataclass(frozen=True)
class Means:
    """What the batches of a stage say of the terms' mean gradients, over all parameters.

    Args:
        count: batches.
        own: the mean of the inner products within a batch: signal and noise.
        inner: the inner products of the mean gradients, from pairs of different batches: signal.
        error: their standard errors.
        still: whether the weights stood still meanwhile; where they moved, so did what is the
            mean, and some signal counts as noise.
    """

    count: int
    own: Table
    inner: Table
    error: Table
    still: bool = False


@dataclass(frozen=True)
class Record:
    """A diagnosed training.

    Args:
        terms: their names; ``others`` last, where some losses belong to no term.
        optimizer: its class.
        adaptive: whether it divides by running means of squared gradients, as Adam does.
        looks: in order.
        means: by stage.
        reached: by part, the terms that reach it.
        iterations: that were trained.
        interval: updates from look to look.
        seconds: of training, and of looking among them.
        interrupted: whether somebody stopped it.
    """

    terms: list[str]
    optimizer: str
    adaptive: bool
    looks: list[Look]
    means: dict[str, Means]
    reached: dict[str, list[str]]
    iterations: int
    interval: int
    seconds: dict[str, float] = field(default_factory=dict)
    interrupted: bool = False

    @property
    def stages(self) -> list[str]:
        """In order."""
        return list(dict.fromkeys(look.stage for look in self.looks))

    def of(self, stage: str) -> list[Look]:
        """The looks of a stage."""
        return [look for look in self.looks if look.stage == stage]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON, with as many digits as mean something."""
        return _short(asdict(self))

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Record:
        """The record that :meth:`as_dict` made plain."""
        looks = [Look(**look) for look in content["looks"]]
        means = {stage: Means(**one) for stage, one in content["means"].items()}
        return cls(**{**content, "looks": looks, "means": means})


def _short(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: _short(item) for key, item in value.items()}
    return [_short(item) for item in value] if isinstance(value, (list, tuple)) else value
