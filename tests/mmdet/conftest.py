"""Fixtures of the adapter's tests."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.mmdet_toy import toy_config, write_data
from mmengine.config import Config
from mmengine.runner import Runner


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny COCO data set."""
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture
def make_config(data: Path, tmp_path: Path) -> Callable[..., Config]:
    """Makes toy configs with a work directory of their own per name."""

    def make(detector: str, combiner: Any = None, name: str = "run", **options: Any) -> Config:
        return toy_config(detector, data, tmp_path / name, combiner, **options)

    return make


@pytest.fixture
def train() -> Callable[[Config], Runner]:
    """Trains a config to its end."""

    def run(cfg: Config) -> Runner:
        runner = Runner.from_cfg(cfg)
        runner.train()
        return runner

    return run
