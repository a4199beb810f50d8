"""Fixtures of the Detectron2 adapter's tests, which are left out where it is not installed."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("detectron2")

from detectron2.modeling import build_model
from helpers.detectron2_toy import register_data, toy_cfg
from helpers.mmdet_toy import write_data

from lossweave.progress import Progress


@pytest.fixture(scope="session", autouse=True)
def _same_from_the_first_call() -> Iterator[None]:
    """The focal loss is scripted, and TorchScript's later calls differ from the first two."""
    with torch.jit.optimized_execution(False):
        yield


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny COCO data set, registered with Detectron2."""
    root = write_data(tmp_path_factory.mktemp("data"))
    register_data(root)
    return root


@pytest.fixture
def make_cfg(data: Path, tmp_path: Path) -> Callable[..., Any]:
    """Makes toy configs with a work directory of their own per name."""
    logging.getLogger("detectron2").setLevel(logging.WARNING)

    def make(detector: str, combiner: Any = None, name: str = "run", **changes: Any) -> Any:
        return toy_cfg(detector, tmp_path / name, combiner, **changes)

    return make


@pytest.fixture
def build(make_cfg: Callable[..., Any]) -> Callable[..., Any]:
    """Builds detectors with the weights of a stock one."""

    def make(detector: str, combiner: Any, state: Any = None) -> Any:
        torch.manual_seed(0)
        model = build_model(make_cfg(detector, combiner, "model")).train()
        if state is not None:
            model.load_state_dict(state, strict=False)
        if combiner is not None:
            model.loss_combination.set_progress(Progress())
        return model

    return make
