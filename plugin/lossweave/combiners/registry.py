"""The registry of combiners: names to classes, configurations to checked instances."""

import importlib
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, TypeVar

from lossweave.combiners.base import Combiner
from lossweave.errors import LossweaveError

__all__ = ["build_combiner", "combiner_class", "combiner_names", "register_combiner"]

_COMBINERS: dict[str, type[Combiner]] = {}
_C = TypeVar("_C", bound=type[Combiner])


def register_combiner(cls: _C) -> _C:
    """Register a combiner under its class name (a decorator).

    Registering another class under a taken name is refused; the same class again (a module
    that is reloaded) replaces the old one.

    Raises:
        LossweaveError: not a :class:`Combiner`, or the name is taken.

    Example:
        >>> @register_combiner
        ... class Doubled(Combiner):
        ...     def value(self, losses, present):
        ...         return 2 * losses.sum()
        >>> "Doubled" in combiner_names()
        True
        >>> del _COMBINERS["Doubled"]
    """
    if not (isinstance(cls, type) and issubclass(cls, Combiner)):
        raise LossweaveError(f"register_combiner takes a subclass of Combiner, not {cls!r}")
    taken = _COMBINERS.get(cls.__name__)
    if taken is not None and (taken.__module__, taken.__qualname__) != (
        cls.__module__,
        cls.__qualname__,
    ):
        raise LossweaveError(
            f"the combiner name {cls.__name__!r} is taken by {taken.__module__}.{taken.__name__}"
        )
    _COMBINERS[cls.__name__] = cls
    return cls


def combiner_names() -> list[str]:
    """The names of all registered combiners, in the order of registration."""
    return list(_COMBINERS)


def combiner_class(name: str) -> type[Combiner]:
    """The combiner class of that name.

    Raises:
        LossweaveError: no such combiner; the message lists near names, or all.
    """
    if name in _COMBINERS:
        return _COMBINERS[name]
    if isinstance(name, str) and "." in name:
        return _imported(name)
    folded = {known.lower(): known for known in _COMBINERS}
    near = get_close_matches(str(name).lower(), folded, n=3, cutoff=0.5)
    hint = (
        "did you mean " + " or ".join(repr(folded[n]) for n in near) + "?"
        if near
        else "there are " + ", ".join(combiner_names())
    )
    raise LossweaveError(f"unknown combiner {name!r}; {hint}")


def _imported(path: str) -> type[Combiner]:
    """A combiner by where it is defined, as a dumped pure-Python config names it."""
    module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise LossweaveError(f"unknown combiner {path!r}: {error}") from None
    if not _is_type(found) or isinstance(found, str):
        raise LossweaveError(f"{path!r} is no combiner, but {found!r}")
    return found


def build_combiner(config: str | type | Mapping[str, Any] | Combiner) -> Combiner:
    """Make a combiner from its name, or from ``dict(type=name, **arguments)``.

    Arguments are checked by name and by the type and range that the constructor declares; so
    they are where the class is called.

    Raises:
        LossweaveError: unknown name, unknown, missing or ill-typed argument.

    Example:
        >>> build_combiner(dict(type="DWA", temperature=1.5)).temperature
        1.5
        >>> build_combiner(dict(type="DWA", temprature=1.5))
        Traceback (most recent call last):
        ...
        lossweave.errors.LossweaveError: DWA has no argument 'temprature'; it takes \
temperature, period, prefer (did you mean 'temperature'?)
    """
    if isinstance(config, Combiner):
        return config
    if isinstance(config, str) or _is_type(config):
        config = {"type": config}
    if not isinstance(config, Mapping) or not _is_type(config.get("type")):
        raise LossweaveError(f"combiner takes a name or dict(type='Name', ...), but is {config!r}")
    arguments = dict(config)
    kind = arguments.pop("type")
    return (combiner_class(kind) if isinstance(kind, str) else kind)(**arguments)


def _is_type(kind: Any) -> bool:
    """A name, or in a pure-Python config the class itself."""
    return isinstance(kind, str) or (isinstance(kind, type) and issubclass(kind, Combiner))
