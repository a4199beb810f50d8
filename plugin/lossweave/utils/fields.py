"""What a field may hold, declared once as its type, and one checker for all of them.

A field is an argument of a function or constructor, or a field of a dataclass; its type hint is
the declaration. Beside the types themselves (numbers, words, lists, dicts, choices, dataclasses
in dataclasses) a hint may name a range: ``Annotated[float, above(0)]``. Numbers are finite,
whole numbers are no booleans, and names that are not known are answered by near ones. Whatever
is wrong is one line that names the field, its value and what is allowed.
"""

import collections.abc
import dataclasses
import math
import numbers
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Annotated, Any, TypeVar

import typing_extensions

from lossweave.errors import LossweaveError

__all__ = [
    "COUNT",
    "COUNT_OR_NONE",
    "DECAY",
    "MOMENTUM",
    "NAME",
    "RATE",
    "SEED",
    "Allowed",
    "above",
    "allowed_words",
    "at_least",
    "between",
    "check_value",
    "fits",
    "near_names",
    "read_fields",
]

_T = TypeVar("_T")
#: Letters of a value that a message shows.
_SHOWN = 120


# --------------------------------------------------------------------------------- ranges


@dataclasses.dataclass(frozen=True)
class Allowed:
    """What an ``Annotated`` type allows of the values of its type.

    Args:
        words: what is allowed, as it continues "... should be".
        test: whether a value of the type is.

    Example:
        >>> even = Allowed("even", lambda value: value % 2 == 0)
        >>> fits(3, Annotated[int, even]), allowed_words(Annotated[int, even])
        (False, 'a whole number, even')
    """

    words: str
    test: Callable[[Any], bool] = dataclasses.field(compare=False)


def above(low: float) -> Allowed:
    """Numbers above ``low``."""
    return Allowed("positive" if low == 0 else f"above {low}", lambda value: value > low)


def at_least(low: float) -> Allowed:
    """Numbers from ``low`` on."""
    return Allowed(f"at least {low}", lambda value: value >= low)


def between(low: float, high: float) -> Allowed:
    """Numbers from ``low`` to ``high``, both included."""
    return Allowed(f"between {low} and {high}", lambda value: low <= value <= high)


#: How many of something; more would never end.
COUNT = Annotated[int, between(1, 10**9)]
#: The same, and none.
COUNT_OR_NONE = Annotated[int, between(0, 10**9)]
#: A learning rate, or a factor of one: no method has larger ones, and float32 soon ends above.
RATE = Annotated[float, between(0, 1000)]
#: A decay of weights; above it they would change sign at every step.
DECAY = Annotated[float, between(0, 100)]
#: A share of the past.
MOMENTUM = Annotated[float, Allowed("0 or more, and below 1", lambda value: 0 <= value < 1)]
#: What every random generator takes.
SEED = Annotated[int, between(0, 2**32 - 1)]
#: A name that is there.
NAME = Annotated[str, Allowed("not empty", bool)]


# -------------------------------------------------------------------------------- one value


def fits(value: Any, hint: Any) -> bool:
    """Whether a value is what a type hint declares.

    Args:
        value: any value of a config.
        hint: a type, or a form made of them; what it does not understand allows everything.

    Example:
        >>> fits(1, float), fits(float("inf"), float), fits(True, int), fits([1], tuple[int, ...])
        (True, False, False, True)
        >>> fits(0, Annotated[float, above(0)] | None)
        False
    """
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return True
    if hint is None or hint is type(None):
        return value is None
    if origin is Annotated:
        ranges = [part for part in parts[1:] if isinstance(part, Allowed)]
        return fits(value, parts[0]) and all(allowed.test(value) for allowed in ranges)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, part) for part in parts)
    if origin is typing.Literal:
        return any(value == part and type(value) is type(part) for part in parts)
    if hint is float:
        return _number(value, numbers.Real) and math.isfinite(value)
    if hint is int:
        return _number(value, numbers.Integral)
    if dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
        return True  # its fields are looked at one by one
    if origin is not None and isinstance(origin, type):
        return _holds(value, origin, parts)
    return isinstance(value, hint) if isinstance(hint, type) else True


def _number(value: Any, kind: type) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _holds(value: Any, origin: type, parts: tuple[Any, ...]) -> bool:
    """Whether a container is of its kind and holds what it should."""
    if issubclass(origin, Mapping):
        return isinstance(value, Mapping) and all(
            fits(k, parts[0]) and fits(v, parts[1]) for k, v in value.items()
        )
    if origin is tuple:
        kinds = parts[:-1] * len(value) if parts[-1:] == (...,) and _listed(value) else parts
        return (
            _listed(value)
            and len(value) == len(kinds)
            and all(fits(v, kind) for v, kind in zip(value, kinds, strict=True))
        )
    if issubclass(origin, Sequence):
        return _listed(value) and all(fits(v, parts[0]) for v in value)
    return isinstance(value, origin)


def _listed(value: Any) -> bool:
    return isinstance(value, (list, tuple))


def allowed_words(hint: Any) -> str:
    """A type hint in words, as they continue "... should be".

    Example:
        >>> allowed_words(Annotated[int, at_least(1)] | None)
        'a whole number, at least 1 or None'
    """
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    words = {
        float: "a number", int: "a whole number", str: "a name", bool: "True or False",
        dict: "a dict", Mapping: "a dict", list: "a list",
    }  # fmt: skip
    if origin is Annotated:
        said = [part.words for part in parts[1:] if isinstance(part, Allowed)]
        return ", ".join([allowed_words(parts[0]), *said])
    if origin in (typing.Union, types.UnionType):
        return " or ".join(allowed_words(part) for part in parts)
    if origin is typing.Literal:
        return "one of " + ", ".join(repr(part) for part in parts)
    if hint is type(None):
        return "None"
    if hint is Any:
        return "anything"
    if dataclasses.is_dataclass(hint):
        return "a dict of " + ", ".join(field.name for field in dataclasses.fields(hint))
    if origin is not None and isinstance(origin, type):
        if issubclass(origin, Mapping):
            return f"a dict from {allowed_words(parts[0])} to {allowed_words(parts[1])}"
        if issubclass(origin, Sequence):
            return "a list of " + " and ".join(allowed_words(p) for p in parts if p is not ...)
    if hint is Callable or origin is collections.abc.Callable:
        return "a class or function"
    return words.get(hint, getattr(hint, "__name__", str(hint)))


def check_value(label: str, value: Any, hint: Any) -> None:
    """Refuse a value that is not what a hint declares.

    Args:
        label: the field's name, with whose it is.
        value: its value.
        hint: its type hint.

    Raises:
        LossweaveError: naming the field, the value and what is allowed.

    Example:
        >>> check_value("schedule.rpn: lr", float("inf"), Annotated[float, above(0)])
        Traceback (most recent call last):
        ...
        lossweave.errors.LossweaveError: schedule.rpn: lr=inf should be a finite number, positive
        >>> check_value("Sum: weights", [1, "b"], list[float])
        Traceback (most recent call last):
        ...
        lossweave.errors.LossweaveError: Sum: weights=[1, 'b'] should be a list of a number
    """
    if fits(value, hint):
        return
    raise LossweaveError(f"{label}={_shown(value)} should be {_words_for(value, hint)}")


def _words_for(value: Any, hint: Any) -> str:
    """What is allowed, no longer than it must be for this value."""
    parts = typing.get_args(hint)
    if typing.get_origin(hint) is Annotated and fits(value, parts[0]):
        ranges = [part for part in parts[1:] if isinstance(part, Allowed)]
        return ", ".join(allowed.words for allowed in ranges if not allowed.test(value))
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        alike = [part for part in parts if fits(value, _without_range(part))]
        if len(alike) == 1:  # of that kind, and out of its range
            rest = [allowed_words(part) for part in parts if part is not alike[0]]
            return " or ".join([_words_for(value, alike[0]), *rest])
    words = allowed_words(hint)
    if not fits(_bounded(value), hint):
        return words
    return (
        words.replace("a number", "a finite number")
        if isinstance(value, float)
        else "finite numbers"
    )


def _bounded(value: Any) -> Any:
    """The value with a finite number wherever it has none: whether that is all that is wrong."""
    if _listed(value):
        return [_bounded(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _bounded(item) for key, item in value.items()}
    return 1.0 if isinstance(value, float) and not math.isfinite(value) else value


def _without_range(hint: Any) -> Any:
    return typing.get_args(hint)[0] if typing.get_origin(hint) is Annotated else hint


def _shown(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def near_names(name: Any, known: Iterable[str]) -> str:
    """The end of a message about a name that is not known: near ones, or all that there are.

    Example:
        >>> near_names("itrations", ["iterations", "lr"]), near_names("x", ["iterations", "lr"])
        ("did you mean 'iterations'?", 'there are iterations, lr')
        >>> near_names("x", [])
        'there are none'
    """
    names = [str(each) for each in known]
    folded = {each.lower(): each for each in names}
    near = get_close_matches(str(name).lower(), folded, n=3)
    if near:
        return "did you mean " + " or ".join(repr(folded[each]) for each in near) + "?"
    return "there are " + (", ".join(names) or "none")


# ------------------------------------------------------------------------------- dataclasses


def read_fields(declared: type[_T], values: Any, where: str = "") -> _T:
    """A dataclass from a config's values, checked field by field, nodes in nodes included.

    Lists become tuples where those are declared, and dicts the dataclasses that are. In a union,
    a dict is read as the one dataclass in it.

    Args:
        declared: a dataclass; the hints of its fields declare what they may hold.
        values: a mapping by the fields' names, or an instance, which is returned.
        where: the config's path to it, e.g. 'schedule.rpn', for messages.

    Raises:
        LossweaveError: an unknown, missing, ill-typed or meaningless field.

    Example:
        >>> @dataclasses.dataclass(frozen=True)
        ... class Budget:
        ...     iterations: Annotated[int, at_least(1)]
        ...     drops: tuple[int, ...] = ()
        >>> read_fields(Budget, dict(iterations=5, drops=[3]), "schedule.rpn")
        Budget(iterations=5, drops=(3,))
        >>> read_fields(Budget, dict(itrations=5), "schedule.rpn")
        Traceback (most recent call last):
        ...
        lossweave.errors.LossweaveError: schedule.rpn has no field 'itrations'; did you mean \
'iterations'?
    """
    if isinstance(values, declared):
        return values
    who = where or declared.__name__
    if not isinstance(values, Mapping):
        raise LossweaveError(f"{who}={_shown(values)} should be {allowed_words(declared)}")
    hints = typing_extensions.get_type_hints(declared, include_extras=True)
    fields = {field.name: field for field in dataclasses.fields(declared) if field.init}  # type: ignore[arg-type]
    for name in values:
        if name not in fields:
            raise LossweaveError(f"{who} has no field {name!r}; {near_names(name, fields)}")
    for name, field in fields.items():
        missing = dataclasses.MISSING
        needed = field.default is missing and field.default_factory is missing
        if needed and name not in values:
            raise LossweaveError(f"{who} needs the field {name!r}")
    prefix = f"{where}." if where else ""
    return declared(
        **{name: _read(value, hints[name], f"{prefix}{name}") for name, value in values.items()}
    )


def _read(value: Any, hint: Any, label: str) -> Any:
    """A field's value, checked, with the containers that its hint declares."""
    check_value(label, value, hint)
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return _read(value, parts[0], label)
    if origin in (typing.Union, types.UnionType):
        return _read(value, next(part for part in parts if fits(value, part)), label)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return read_fields(hint, value, label)
    if origin is tuple:
        kinds = parts[:-1] * len(value) if parts[-1:] == (...,) else parts
        return tuple(
            _read(v, kind, f"{label}[{at}]")
            for at, (v, kind) in enumerate(zip(value, kinds, strict=True))
        )
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {key: _read(item, parts[1], f"{label}.{key}") for key, item in value.items()}
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return [_read(item, parts[0], f"{label}[{at}]") for at, item in enumerate(value)]
    return value
