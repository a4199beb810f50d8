"""What cannot be made exact: whoever remembers earlier samples, in no checkpoint.

Numbered draws make the order of the data and the random states of every sample follow from a
number. What a transform or data set keeps from one sample to the next, a cache of pictures or a
generator of its own, is in no checkpoint: a resumed training would load other samples. It is
found in the objects and in their code, before anything is trained.
"""

import ast
import inspect
import random
import textwrap
import types
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

import numpy as np
import torch

from lossweave.errors import LossweaveError

__all__ = ["memory_of", "refuse_memory", "refuse_unknown_sampler"]

_GENERATORS = (np.random.RandomState, np.random.Generator, random.Random, torch.Generator)
#: Methods that change a container.
_CHANGES = {
    "add", "append", "appendleft", "clear", "discard", "extend", "insert", "pop", "popitem",
    "popleft", "put", "remove", "setdefault", "update",
}  # fmt: skip
#: What is called for a sample: of transforms, of data sets, of Detectron2's augmentations.
_ENTRIES = {
    "__call__", "__getitem__", "apply_image", "forward", "get_data_info", "get_indexes",
    "get_indices", "get_transform", "prepare_data", "transform",
}  # fmt: skip
#: What is called once, at the first sample.
_LOADING = {"full_init", "load_data_list"}
#: Packages whose classes keep nothing.
_TRUSTED = ("torch.", "builtins.", "abc.", "typing.", "collections.")
#: Packages of data and tools, in which nothing acts on samples.
_PLAIN = ("numpy.", "PIL.", "logging.", "pycocotools.", "builtins.", "re.", "pathlib.")


def memory_of(thing: Any) -> str:
    """What a transform or data set remembers from one sample to the next; '' for nothing.

    Args:
        thing: an instance.

    Example:
        >>> class Flip:
        ...     def __init__(self): self.generator = np.random.default_rng(0)
        ...     def __call__(self, sample): return sample
        >>> memory_of(Flip()), memory_of(random.random)
        ('generator', '')
    """
    for name, value in getattr(thing, "__dict__", {}).items():
        if isinstance(value, _GENERATORS):
            return name
    return _changed_attribute(type(thing))  # type: ignore[arg-type]


def refuse_memory(*things: Any) -> None:
    """Refuse what remembers earlier samples, or has a part that does.

    Args:
        things: data sets, transforms, mappers; all that they are made of is looked at, too. A
            module is none that trains: it is one that changes batches.

    Raises:
        LossweaveError: naming the first one, and what it keeps.
    """
    for thing in _parts(things):
        kept = memory_of(thing)
        if kept:
            raise LossweaveError(
                f"{type(thing).__name__} keeps `{kept}` from one sample to the next, which no "
                "checkpoint has, so a resumed training would load other samples; leave it out, "
                "or train without exact resuming (numbered draws)"
            )


def refuse_unknown_sampler(sampler: Any, known: Iterable[type]) -> None:
    """Refuse a sampler whose order may not follow from its seed and the number of the pass.

    Args:
        sampler: of indices or of batches.
        known: the classes that are known; a class derived from one is not.

    Raises:
        LossweaveError: naming the sampler and those that are known.
    """
    known = tuple(known)
    if type(sampler) not in known:
        names = ", ".join(sorted({kind.__name__ for kind in known}))
        raise LossweaveError(
            f"exact resuming (numbered draws) does not know the sampler {type(sampler).__name__}, "
            f"whose order may not be the same in a resumed training; it knows {names}"
        )


def _parts(things: Iterable[Any]) -> Iterator[Any]:
    """The things and all instances that they hold, each once."""
    waiting, seen = list(things), set()
    while waiting:
        thing = waiting.pop(0)
        if isinstance(thing, (list, tuple)):
            # A list of plain data has nothing below that acts; its first entry says so.
            waiting.extend(thing if thing and hasattr(thing[0], "__dict__") else ())
            continue
        if id(thing) in seen or not hasattr(thing, "__dict__") or _is_plain(thing):
            continue
        seen.add(id(thing))
        yield thing
        waiting.extend(vars(thing).values())


def _is_plain(thing: Any) -> bool:
    code = isinstance(thing, (type, types.FunctionType, types.ModuleType, *_GENERATORS))
    return code or f"{type(thing).__module__}.".startswith(_PLAIN)


@cache
def _changed_attribute(kind: type) -> str:
    """The first attribute that the methods called for a sample change, by their code."""
    methods: dict[str, ast.AST] = {}
    for base in reversed(kind.__mro__):
        if not f"{base.__module__}.".startswith(_TRUSTED):
            methods.update(_methods(base))
    waiting = [name for name in methods if name in _ENTRIES]
    seen: set[str] = set()
    while waiting:
        name = waiting.pop(0)
        if name in seen:
            continue
        seen.add(name)
        for node in ast.walk(methods[name]):
            if changed := next(_changed_by(node, issubclass(kind, torch.nn.Module)), ""):
                return changed
            called = _own_attribute(node.func) if isinstance(node, ast.Call) else ""
            if called in methods and called not in _LOADING:
                waiting.append(called)
    return ""


def _methods(kind: type) -> dict[str, ast.AST]:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    except (OSError, TypeError, SyntaxError):  # compiled, or typed at a prompt
        return {}
    found = tree.body if isinstance(tree, ast.ClassDef) else []
    return {node.name: node for node in found if isinstance(node, ast.FunctionDef)}


def _changed_by(node: ast.AST, assigned: bool) -> Iterator[str]:
    """The attributes of ``self`` that a statement adds to or takes from, or assigns to at all."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        if node.func.attr in _CHANGES and (name := _own_attribute(node.func.value)):
            yield name
    elif isinstance(node, ast.AugAssign):
        yield from filter(None, [_own_attribute(node.target) or _own_item(node.target)])
    elif isinstance(node, ast.Assign):
        read = {_own_attribute(part) for part in ast.walk(node.value)}
        for target in node.targets:
            name = _own_attribute(target)
            if (name and (assigned or name in read)) or (name := _own_item(target)):
                yield name
    elif isinstance(node, ast.Delete):
        yield from filter(None, map(_own_item, node.targets))


def _own_attribute(node: ast.AST) -> str:
    """The name of ``self.name``, or ''."""
    own = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    return node.attr if own and node.value.id == "self" else ""  # type: ignore[attr-defined]


def _own_item(node: ast.AST) -> str:
    """The name of ``self.name[...]``, or ''."""
    return _own_attribute(node.value) if isinstance(node, ast.Subscript) else ""
