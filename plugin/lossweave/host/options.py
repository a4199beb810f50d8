"""What a command to train or to test asks, as data, whoever makes it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from lossweave.errors import LossweaveError
from lossweave.utils.fields import at_least

__all__ = ["Common", "TestOptions", "TrainOptions"]

Launcher = Literal["none", "pytorch", "slurm", "mpi"]


@dataclass(frozen=True)
class Common:
    """What training and testing have in common.

    Args:
        config: path of a config, or ``package::path``, ``detectron2://path``.
        work_dir: where files go; None means the config's own, or one named after it.
        cfg_options: KEY=VALUE words that override the config, as its framework reads them.
        launcher: MMDetection's job launcher.
        num_gpus: processes of this machine, for Detectron2.
        local_rank: the process's number on its machine, from launchers that pass it on.
    """

    config: str
    work_dir: str | None = None
    cfg_options: tuple[str, ...] = ()
    launcher: Launcher = "none"
    num_gpus: Annotated[int, at_least(1)] = 1
    local_rank: Annotated[int, at_least(0)] = 0

    def __post_init__(self) -> None:
        if self.work_dir == "":
            raise LossweaveError("--work-dir '' is the name of no folder")
        for word in self.cfg_options:
            key, equals, _ = word.partition("=")
            if not key or not equals:
                raise LossweaveError(f"--cfg-options: {word!r} should be KEY=VALUE")


@dataclass(frozen=True)
class TrainOptions(Common):
    """What a training asks, beside the config.

    Args:
        resume: None, 'auto' for the newest whole checkpoint of the work directory, or a path.
        combiner: the combiner's name; None leaves the config's own.
        combiner_options: its arguments.
        terms: 'task', 'head', 'loss', 'layer', 'level' or a dict of patterns; None leaves the
            config's own (where it has none, 'task', or 'loss' where that fits nothing).
        exact_resume: whether draws are numbered, so that resuming is exact.
        amp: whether to train with mixed precision.
        auto_scale_lr: whether the learning rate follows the batch size (MMDetection).

    Example:
        >>> TrainOptions("retinanet.py", combiner="Max", cfg_options=("x",))
        Traceback (most recent call last):
        ...
        lossweave.errors.LossweaveError: --cfg-options: 'x' should be KEY=VALUE
    """

    resume: str | None = None
    combiner: str | None = None
    combiner_options: Mapping[str, Any] = field(default_factory=dict)
    terms: Any = None
    exact_resume: bool = False
    amp: bool = False
    auto_scale_lr: bool = False


@dataclass(frozen=True)
class TestOptions(Common):
    """What a test asks, beside the config.

    Args:
        checkpoint: path of the checkpoint.
        tta: test-time augmentation.
        out: file for the detections (MMDetection).
        show: whether detections are shown in a window (MMDetection).
        show_dir: folder for pictures of them (MMDetection).
        wait_time: seconds per picture shown.
    """

    __test__ = False  # the name is not a test's

    checkpoint: str = ""
    tta: bool = False
    out: str | None = None
    show: bool = False
    show_dir: str | None = None
    wait_time: Annotated[float, at_least(0)] = 2
