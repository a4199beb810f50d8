"""Combiners: functions from the K loss terms of one iteration to one scalar.

One method, one file, in the folder of its kind (``values``, ``adaptive``, ``gradients``,
``turns``); no detection framework is imported here. Every module of these folders is imported,
and the combiners that it registers are attributes of this package: a new one is its file, its
test and its page under ``docs/combiners``.
"""

import importlib
import pkgutil
from typing import Any

from lossweave.combiners import adaptive, gradients, turns, values
from lossweave.combiners.base import Combined, Combiner
from lossweave.combiners.gradients.base import GradientCombiner
from lossweave.combiners.registry import (
    build_combiner,
    combiner_class,
    combiner_names,
    register_combiner,
)

for _name in sorted(
    (f"{kind.__name__}.{info.name}" for kind in (values, adaptive, gradients, turns)
     for info in pkgutil.iter_modules(kind.__path__)),
    key=lambda name: name.rpartition(".")[2],
):  # fmt: skip
    importlib.import_module(_name)
globals().update({name: combiner_class(name) for name in combiner_names()})

__all__ = [
    "Combined",
    "Combiner",
    "GradientCombiner",
    "build_combiner",
    "combiner_class",
    "combiner_names",
    "register_combiner",
]
__all__ += combiner_names()


def __getattr__(name: str) -> Any:  # for type checkers, which do not see what was found above
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
