"""Configs as plain values: the same text for the same config, in every process."""

from __future__ import annotations

import numbers
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

__all__ = ["described", "differences"]


def described(value: Any) -> Any:
    """A config in values that JSON can hold, functions and classes by their names.

    Example:
        >>> described({"type": dict, "size": (1, 2)})
        {'type': 'builtins.dict', 'size': [1, 2]}
    """
    if isinstance(value, Mapping):
        return {str(k): described(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [described(v) for v in value]
    if isinstance(value, (set, frozenset)):
        return sorted((described(v) for v in value), key=str)
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    if isinstance(value, PurePath):
        return str(value)
    if hasattr(value, "tolist"):  # an array
        return described(value.tolist())
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{named.__module__}.{named.__qualname__}"


def differences(one: Any, two: Any, path: str = "") -> Iterator[str]:
    """Where two described configs differ, each in words.

    Example:
        >>> list(differences({"lr": 0.1, "model": {"type": "A"}}, {"lr": 0.2, "model": {}}))
        ['lr (0.1 then, 0.2 now)', "model.type ('A' then, nothing now)"]
    """
    if isinstance(one, Mapping) and isinstance(two, Mapping):
        for key in dict.fromkeys((*one, *two)):
            below = f"{path}.{key}" if path else str(key)
            yield from differences(one.get(key, _NOTHING), two.get(key, _NOTHING), below)
    elif isinstance(one, list) and isinstance(two, list) and len(one) == len(two):
        for number, (first, second) in enumerate(zip(one, two, strict=True)):
            yield from differences(first, second, f"{path}[{number}]")
    elif one != two:
        yield f"{path} ({_short(one)} then, {_short(two)} now)"


_NOTHING: Any = type("_Nothing", (), {"__repr__": lambda self: "nothing"})()


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
