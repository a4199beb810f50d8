"""What each combiner's test says about it, gathered for the suites that run over all."""

import importlib
from functools import cache
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1]


@cache
def gathered() -> dict[str, Any]:
    """The entries of every ``CASES`` in tests/combiners, by the name of the case.

    A case is named by its combiner, or by its combiner and what is special about it.
    """
    found: dict[str, Any] = {}
    for file in sorted(TESTS.glob("combiners/*/test_*.py"), key=lambda file: file.name):
        module = ".".join(file.relative_to(TESTS).with_suffix("").parts)
        for name, case in getattr(importlib.import_module(module), "CASES", {}).items():
            assert name not in found, f"{file.name}: {name!r} is another test's case"
            found[name] = case
    return found


def name_of(case: str) -> str:
    """The combiner that a case is one of."""
    return case.split(" ")[0]
