"""A package outside of lossweave adds a combiner: by a config, by Detectron2's environment."""

import doctest
import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from helpers.combiner_cases import close

from lossweave.combiners.registry import _COMBINERS

PROJECT = Path(__file__).parents[2] / "projects" / "own_combiner"


@pytest.fixture
def harmonic(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The module, forgotten again afterwards."""
    monkeypatch.syspath_prepend(PROJECT)
    yield importlib.import_module("own_combiner.harmonic")
    _COMBINERS.pop("Harmonic", None)
    for name in ("own_combiner.harmonic", "own_combiner"):
        sys.modules.pop(name, None)


def _python(code: str, **environment: str) -> str:
    path = os.pathsep.join([str(PROJECT), *sys.path])
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.strip().splitlines()[-1]


def test_the_formula(harmonic: ModuleType) -> None:
    combiner = harmonic.Harmonic()
    combiner.bind(("a", "b", "c"))
    losses = torch.tensor([1.0, 2.0, 4.0])
    value, weights = combiner.combine(losses, torch.tensor([True, True, True]))
    close(value, 12 / 7)
    close(weights, [48 / 49, 12 / 49, 3 / 49])  # value squared over 3 losses squared
    value, weights = combiner.combine(losses, torch.tensor([True, False, True]))
    close(value, 8 / 5)
    assert weights[1] == 0


def test_its_examples(harmonic: ModuleType) -> None:
    assert doctest.testmod(harmonic).failed == 0


def test_a_config_of_mmdetection_brings_it() -> None:
    pytest.importorskip("mmdet")
    code = f"""
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmdet.registry import MODELS
cfg = Config.fromfile({str(PROJECT / "configs" / "retinanet_harmonic.py")!r})
init_default_scope("mmdet")
model = MODELS.build(cfg.model)
import torch
w = torch.tensor(1.0, requires_grad=True)
loss, _ = model.parse_losses(dict(loss_cls=w, loss_bbox=3 * w))
loss.backward()
print(type(model).__mro__[1].__name__, round(w.grad.item(), 3))
"""
    assert _python(code).endswith(" 1.5")


def test_detectron2s_environment_brings_it() -> None:
    pytest.importorskip("detectron2")
    code = "import detectron2, lossweave; print('Harmonic' in lossweave.combiner_names())"
    assert _python(code) == "False"
    assert _python(code, DETECTRON2_ENV_MODULE="own_combiner") == "True"
