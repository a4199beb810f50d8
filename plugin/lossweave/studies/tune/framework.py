"""What a search asks of a framework. Each has a module with these functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, cast

from lossweave.studies.frameworks import framework_module
from lossweave.studies.tune.keys import Keys
from lossweave.studies.tune.setting import Setting
from lossweave.studies.tune.space import Point

__all__ = ["Framework", "framework_for"]


class Framework(Protocol):
    """Configs of one framework: read, weighed, trained in rungs, and written."""

    def setting_of(
        self,
        config: str,
        options: Sequence[str] = (),
        seed: int = 0,
        asked: str = "",
        jobs: int = 1,
    ) -> Setting:
        """Read from a config what a search needs, and refuse one that cannot be searched.

        Args:
            config: as typed.
            options: ``--cfg-options``.
            seed: of all trainings.
            asked: the study's command.
            jobs: trainings that share the cores.

        Raises:
            LossweaveError: there is nothing to choose by, or to search.
        """

    def find_keys(self, config: str, options: Sequence[str] = ()) -> Keys:
        """The keys of a config's terms, from the losses of its first training batch.

        Every weight of a loss is doubled in turn; the raw losses that double with it are those
        that it weighs. Nothing is trained.

        Args:
            config: as typed.
            options: ``--cfg-options``.

        Raises:
            LossweaveError: the model or its data cannot be built.
        """

    def rung_options(
        self, setting: Setting, rate: float | None, rungs: Sequence[int]
    ) -> tuple[str, ...]:
        """The ``--cfg-options`` of a training that is looked at at rungs, and ends at the last.

        It keeps what each has detected where :func:`~lossweave.host.rungs.detections_of` says.

        Args:
            setting: what all trainings share.
            rate: the learning rate; None leaves the config's.
            rungs: ascending.
        """

    def test_scores(self, setting: Setting, config: str, folder: Path) -> dict[str, float]:
        """The scores of a finished training on a split that nothing was chosen by.

        Args:
            setting: the training's.
            config: what it trained.
            folder: its own.

        Returns:
            By metric; empty where the config has no such split.
        """

    def write_child(
        self,
        folder: Path,
        config: str,
        options: Sequence[str],
        point: Point,
        stock: Mapping[str, float] | None,
        head: Sequence[str] = (),
    ) -> Path:
        """Write a config, ``tuned.*``, that inherits from the user's.

        Args:
            folder: where it goes.
            config: the user's, as typed.
            options: its ``--cfg-options``, which become part of it.
            point: the weights and the rate.
            stock: by stock key, its value; None weighs by ``Sum(weights)``.
            head: comment lines.
        """


def framework_for(config: str) -> Framework:
    """The module for a config.

    Raises:
        LossweaveError: there is no such config, or its framework is not installed.
    """
    return cast(Framework, framework_module(config, "lossweave.studies.tune"))
