"""Functions and classes whose arguments are checked by their type hints."""

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any, TypeVar

import typing_extensions

from lossweave.errors import LossweaveError
from lossweave.utils.fields import check_value

__all__ = ["Checked", "check_arguments", "checked"]

_T = TypeVar("_T")


@dataclasses.dataclass(frozen=True)
class _Field:
    hint: Any
    needed: bool


def check_arguments(
    function: Callable[..., Any], arguments: Mapping[str, Any], who: str | None = None
) -> None:
    """Refuse arguments that a function or constructor does not take, by name, type and range.

    Args:
        function: a function or class; its type hints declare what it takes. ``**rest`` of a
            ``TypedDict`` (by ``Unpack``) declares by name, any other takes anything.
        arguments: by name.
        who: the name for messages; the function's own if None.

    Raises:
        LossweaveError: an unknown, missing or ill-typed argument.

    Example:
        >>> from typing import Annotated
        >>> from lossweave.utils.fields import above
        >>> def train(lr: Annotated[float, above(0)], epochs: int = 1): ...
        >>> check_arguments(train, dict(lr=0.1, epoch=3))
        Traceback (most recent call last):
        ...
        lossweave.errors.LossweaveError: train has no argument 'epoch'; it takes lr, epochs \
(did you mean 'epochs'?)
    """
    who = who or function.__name__
    fields, takes_any = _fields_of(function)
    for name in arguments:
        if name not in fields and not takes_any:
            raise LossweaveError(f"{who} has no argument {name!r}; {_taken(name, fields)}")
    for name, field in fields.items():
        if field.needed and name not in arguments:
            raise LossweaveError(f"{who} needs the argument {name!r}")
    for name, value in arguments.items():
        if name in fields:
            check_value(f"{who}: {name}", value, fields[name].hint)


def _taken(name: Any, fields: Mapping[str, Any]) -> str:
    known = "it takes " + ", ".join(fields) if fields else "it takes none"
    near = get_close_matches(str(name), fields, n=1)
    return known + (f" (did you mean {near[0]!r}?)" if near else "")


def _fields_of(function: Callable[..., Any]) -> tuple[dict[str, _Field], bool]:
    """The named arguments of a function, and whether it takes others, too."""
    parameters = _signature(function).parameters
    made: Any = function.__init__ if isinstance(function, type) else function  # type: ignore[misc]
    try:
        hints = typing_extensions.get_type_hints(made, include_extras=True)
    except (NameError, TypeError):  # annotations that name what is imported for typing only
        hints = {}
    also = function.also_takes if isinstance(function, Checked) else {}
    fields, takes_any = {}, False
    for name, parameter in parameters.items():
        if parameter.kind is parameter.VAR_POSITIONAL:
            continue
        if parameter.kind is not parameter.VAR_KEYWORD:
            needed = parameter.default is parameter.empty
            fields[name] = _Field(hints.get(name, Any), needed)
            continue
        unpacked = typing.get_args(hints.get(name))
        if unpacked and typing_extensions.is_typeddict(unpacked[0]):
            rest = typing_extensions.get_type_hints(unpacked[0], include_extras=True)
            fields.update({key: _Field(hint, False) for key, hint in rest.items()})
        else:
            takes_any = True
    fields.update({name: _Field(hint, False) for name, hint in also.items()})
    return fields, takes_any


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    """A function's signature; a class's is its constructor's, whatever its own type does."""
    if not isinstance(function, type):
        return inspect.signature(function)
    own = inspect.signature(function.__init__)  # type: ignore[misc]
    return own.replace(parameters=list(own.parameters.values())[1:])


class Checked(type):
    """The type of classes whose constructor's arguments are checked by its type hints.

    However an instance is made, by a config or in Python, nothing else gets in.

    Example:
        >>> from typing import Annotated
        >>> from lossweave.utils.fields import at_least
        >>> class Hook(metaclass=Checked):
        ...     def __init__(self, interval: Annotated[int, at_least(1)] = 1) -> None: ...
        >>> Hook(interval=True)
        Traceback (most recent call last):
        ...
        lossweave.errors.LossweaveError: Hook: interval=True should be a whole number, at least 1
    """

    @property
    def __signature__(cls) -> inspect.Signature:
        return _signature(cls)

    @property
    def also_takes(cls) -> Mapping[str, Any]:
        """Type hints of arguments beside the constructor's own, which do not reach it."""
        return {}

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        _check_call(cls, args, kwargs)
        rest = {name: value for name, value in kwargs.items() if name not in cls.also_takes}
        return super().__call__(*args, **rest)


def checked(function: Callable[..., _T]) -> Callable[..., _T]:
    """A function whose arguments are checked by its type hints (a decorator).

    Example:
        >>> from typing import Annotated
        >>> from lossweave.utils.fields import between
        >>> @checked
        ... def split(share: Annotated[float, between(0, 1)]) -> float: return 1 - share
        >>> split(share=7)
        Traceback (most recent call last):
        ...
        lossweave.errors.LossweaveError: split: share=7 should be between 0 and 1
    """

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> _T:
        _check_call(function, args, kwargs)
        return function(*args, **kwargs)

    return call


def _check_call(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    """Check a call; more positional arguments than there are stay Python's own error."""
    parameters = _signature(function).parameters.values()
    named = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    check_arguments(function, {**dict(zip(named, args)), **kwargs})  # noqa: B905
