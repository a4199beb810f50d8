"""What a study of arms asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from lossweave.errors import LossweaveError
from lossweave.mmdet.configs import load_config
from lossweave.studies.ledger.book import LedgerOptions
from lossweave.studies.runs.demo_data import stretched
from lossweave.studies.runs.method import Method, Trial
from lossweave.studies.runs.training import serial_loading

__all__ = ["Arm", "Asked", "schedule", "trial_of"]

#: A place on an axis: a number, or a name.
Value = float | str
_LENGTH = ("train_cfg.max_iters", "train_cfg.val_interval", "default_hooks.checkpoint.interval")


@dataclass(frozen=True)
class Arm:
    """One way to train: what of it differs from the config.

    Args:
        places: where the arm stands, by axis; ``{"loss": "l1", "share": 0.05}``.
        options: ``--cfg-options`` that put it there.
        method: what combines the losses, as typed.
        rate: the learning rate; the config's if None.

    Example:
        >>> Arm({"loss": "l1", "share": 0.05}).name
        'loss-l1_share-0.05'
    """

    places: Mapping[str, Value]
    options: tuple[str, ...] = ()
    method: str = "Sum"
    rate: float | None = None

    @property
    def name(self) -> str:
        """For a folder, without what a command line would read as something else."""
        text = "_".join(f"{axis}-{_text(value)}" for axis, value in self.places.items())
        return "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in text)


@dataclass(frozen=True)
class Asked:
    """What all trainings of a study of arms share.

    Args:
        config: the detector's.
        work_dir: where everything is written.
        seeds: of the initial weights and of the order of the data.
        iterations: of a training; None means the config's.
        jobs: trainings at a time.
        options: further ``--cfg-options`` of all.
        command: the command that asked for it.
        ledger: where the results are.
        boxes: whether the boxes on the test split are wanted.
    """

    config: str
    work_dir: str
    seeds: tuple[int, ...] = (0, 1, 2)
    iterations: int | None = None
    jobs: int = 1
    options: tuple[str, ...] = ()
    command: str = ""
    ledger: LedgerOptions = field(default_factory=LedgerOptions)
    boxes: bool = False

    def __post_init__(self) -> None:
        if not self.seeds or min(self.seeds) < 0 or len(set(self.seeds)) < len(self.seeds):
            raise LossweaveError("the study needs seeds from 0 on, each once")


def schedule(config: str, iterations: int | None) -> tuple[str, ...]:
    """Options for a training of so many iterations, the config's schedule in proportion.

    Args:
        config: an iteration-based one.
        iterations: None means the config's.

    Raises:
        LossweaveError: there is no such config, or it counts in epochs.

    Example:
        >>> schedule("lossweave::mmdet/demo/retinanet_screen.py", 220)[3:]
        ('param_scheduler.0.end=25', 'param_scheduler.1.begin=25', 'param_scheduler.1.end=220')
    """
    if iterations is None:
        return ()
    cfg = load_config(config)
    if not cfg.train_cfg.get("max_iters"):
        raise LossweaveError(f"{config}: --iterations needs a config that counts in iterations")
    factor = iterations / cfg.train_cfg.max_iters
    schedulers = [stretched(dict(one), factor) for one in cfg.param_scheduler]
    return (
        *(f"{key}={iterations}" for key in _LENGTH),
        *(
            f"param_scheduler.{place}.{key}={one[key]}"
            for place, one in enumerate(schedulers)
            for key in ("begin", "end", "T_max")
            if one.get(key)
        ),
    )


def trial_of(asked: Asked, arm: Arm, seed: int) -> Trial:
    """The training of an arm with a seed.

    Raises:
        LossweaveError: there is no such config, or no such combiner.
    """
    shared = (*_shared(asked.config, asked.iterations), *asked.options)
    return Trial(
        Method.parse(arm.method),
        seed,
        asked.config,
        str(Path(asked.work_dir) / arm.name),
        (*shared, *arm.options),
        asked.jobs,
        arm.rate,
        boxes=asked.boxes,
        may_diverge=True,
    )


@cache
def _shared(config: str, iterations: int | None) -> tuple[str, ...]:
    return (*serial_loading(config), *schedule(config, iterations))


def _text(value: Value) -> str:
    return value if isinstance(value, str) else f"{value:g}"
