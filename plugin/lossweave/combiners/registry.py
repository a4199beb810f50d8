"""The registry of combiners: names to classes, configurations to checked instances."""

import inspect
import types
import typing
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, TypeVar

import typing_extensions

from lossweave.combiners.base import Combiner
from lossweave.errors import LossweaveError

__all__ = ["build_combiner", "combiner_class", "combiner_names", "register_combiner"]

_COMBINERS: dict[str, type[Combiner]] = {}
_KEYWORD = inspect.Parameter.KEYWORD_ONLY
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
    folded = {known.lower(): known for known in _COMBINERS}
    near = get_close_matches(str(name).lower(), folded, n=3, cutoff=0.5)
    hint = (
        "did you mean " + " or ".join(repr(folded[n]) for n in near) + "?"
        if near
        else "there are " + ", ".join(combiner_names())
    )
    raise LossweaveError(f"unknown combiner {name!r}; {hint}")


def build_combiner(config: str | Mapping[str, Any] | Combiner) -> Combiner:
    """Make a combiner from its name, or from ``dict(type=name, **arguments)``.

    Arguments are checked by name and by the type that the constructor declares.

    Raises:
        LossweaveError: unknown name, unknown, missing or ill-typed argument.

    Example:
        >>> build_combiner(dict(type="DWA", temperature=1.5)).temperature
        1.5
        >>> build_combiner(dict(type="DWA", temprature=1.5))
        Traceback (most recent call last):
        ...
        lossweave.errors.LossweaveError: DWA has no argument 'temprature'; it takes \
temperature, period (did you mean 'temperature'?)
    """
    if isinstance(config, Combiner):
        return config
    if isinstance(config, str):
        config = {"type": config}
    if not isinstance(config, Mapping) or not isinstance(config.get("type"), str):
        raise LossweaveError(f"combiner takes a name or dict(type='Name', ...), but is {config!r}")
    arguments = dict(config)
    cls = combiner_class(arguments.pop("type"))
    _check_arguments(cls, arguments)
    return cls(**arguments)


def _check_arguments(cls: type[Combiner], arguments: Mapping[str, Any]) -> None:
    own = cls.__init__ is not Combiner.__init__  # nn.Module's takes anything, ours nothing
    parameters = dict(inspect.signature(cls).parameters) if own else {}
    try:
        hints = typing.get_type_hints(cls.__init__) if own else {}
    except NameError:  # a user's class whose annotations name what is imported for typing only
        hints = {}
    for name in [n for n, p in parameters.items() if p.kind is p.VAR_KEYWORD]:
        unpacked = typing.get_args(hints.get(name))
        if unpacked and typing_extensions.is_typeddict(unpacked[0]):  # **options: Unpack[Options]
            del parameters[name]
            for key, hint in typing.get_type_hints(unpacked[0]).items():
                parameters[key] = inspect.Parameter(key, _KEYWORD, default=None)
                hints[key] = hint
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for name in arguments:
        if name not in parameters and not takes_any:
            known = "it takes " + ", ".join(parameters) if parameters else "it takes none"
            near = get_close_matches(name, parameters, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise LossweaveError(f"{cls.__name__} has no argument {name!r}; {known}{hint}")
    for name, parameter in parameters.items():
        needed = parameter.default is parameter.empty and parameter.kind not in (
            parameter.VAR_KEYWORD,
            parameter.VAR_POSITIONAL,
        )
        if needed and name not in arguments:
            raise LossweaveError(f"{cls.__name__} needs the argument {name!r}")
    for name, value in arguments.items():
        if name in hints and not _fits(value, hints[name]):
            raise LossweaveError(f"{cls.__name__}: {name}={value!r} should be {_said(hints[name])}")


def _fits(value: Any, hint: Any) -> bool:
    """Whether a configuration value fits a type hint (the forms that constructors use)."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return True
    if hint is None or hint is type(None):
        return value is None
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, part) for part in parts)
    if origin is typing.Literal:
        return any(value == part and type(value) is type(part) for part in parts)
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if origin is not None and isinstance(origin, type):
        if issubclass(origin, Mapping):
            return isinstance(value, Mapping) and all(
                _fits(k, parts[0]) and _fits(v, parts[1]) for k, v in value.items()
            )
        if origin is tuple:
            kinds = parts[:-1] * len(value) if parts[-1:] == (...,) and value else parts
            return (
                isinstance(value, (list, tuple))
                and len(value) == len(kinds)
                and all(_fits(v, kind) for v, kind in zip(value, kinds, strict=True))
            )
        if issubclass(origin, Sequence):
            return isinstance(value, (list, tuple)) and all(_fits(v, parts[0]) for v in value)
    return isinstance(value, hint) if isinstance(hint, type) else True


def _said(hint: Any) -> str:
    """A type hint in words."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    words = {float: "a number", int: "a whole number", str: "a name", bool: "True or False"}
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_said(part) for part in parts)
    if origin is typing.Literal:
        return "one of " + ", ".join(repr(part) for part in parts)
    if hint is type(None):
        return "None"
    if hint is Any:
        return "anything"
    if origin is not None and isinstance(origin, type):
        if issubclass(origin, Mapping):
            return f"a dict from {_said(parts[0])} to {_said(parts[1])}"
        return "a list of " + " and ".join(_said(p) for p in parts if p is not ...)
    return words.get(hint, getattr(hint, "__name__", str(hint)))
