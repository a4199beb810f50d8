"""Fixtures of the adapter's tests."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.mmdet_toy import toy_config, write_data
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner

from lossweave.progress import Progress


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


@pytest.fixture
def build(make_config: Callable[..., Config]) -> Callable[..., Any]:
    """Builds combined detectors with the weights of a stock one."""

    def make(detector: str, combiner: Any, state: Any = None, **options: Any) -> Any:
        init_default_scope("mmdet")
        cfg = make_config(detector, combiner, "model", **options)
        torch.manual_seed(0)
        model = MODELS.build(cfg.model).train()
        if state is not None:
            model.load_state_dict(state, strict=False)
        if combiner is not None:
            model.loss_combination.set_progress(Progress())
        return model

    return make
