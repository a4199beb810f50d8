"""Which of a study's modules serves a config's framework."""

from __future__ import annotations

import importlib
from typing import Any

from lossweave.errors import LossweaveError
from lossweave.host.paths import framework_of

__all__ = ["framework_module"]


def framework_module(config: str, package: str) -> Any:
    """The module ``in_<framework>`` of a study.

    Args:
        config: of either framework, as typed.
        package: the study's, dotted.

    Raises:
        LossweaveError: there is no such config, or its framework is not installed.
    """
    name = framework_of(config)
    try:
        return importlib.import_module(f"{package}.in_{name}")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "lossweave":
            raise
        raise LossweaveError(
            f"{config!r} is a config of {name}, and {error.name} is not installed"
        ) from None
