"""Hooks on tensors and nodes: set aside while terms are differentiated one by one.

What a hook registered by the user is to see is the gradient of the combined scalar, once a step.
So while rows are taken, the hooks are not called; it is noted which of them would have been.

Autograd does not tell which hooks a graph has. But every hook is registered with a numbered
handle, so one comparison of numbers tells that there is none. Where there may be some, their
dictionaries are looked up among Python's objects, the young ones first, and among the old ones only
where the garbage collector has made old ones of young ones since the last look: a hook that was
removed again is in no dictionary, and to find that out among all objects takes as long as a step.
"""

import gc
import weakref
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from lossweave.errors import LossweaveError

__all__ = ["Aside", "unwatched"]

_Dict = OrderedDict[int, Callable[..., Any]]


class _Known:
    """A dictionary of hooks.

    Args:
        hooks: the dictionary.
    """

    def __init__(self, hooks: _Dict) -> None:
        self.ref = weakref.ref(hooks)
        #: Whether no backward that it could belong to has called it.
        self.idle = False


class _Register:
    """The dictionaries of hooks that this process has made since it began to combine."""

    def __init__(self) -> None:
        self.seen = RemovableHandle.next_id
        #: How often each generation of objects had been collected then; -1 is never.
        self.collected = [-1, -1, -1]
        self.known: dict[int, _Known] = {}
        #: Backwards that are still to come.
        self.pending: weakref.WeakSet[Aside] = weakref.WeakSet()

    def update(self) -> None:
        """Look up what has been registered since."""
        last, collected = RemovableHandle.next_id, [each["collections"] for each in gc.get_stats()]
        if last != self.seen:
            # Made since the last look, a dictionary is as old as the collections since make it.
            since = [now > then for now, then in zip(collected, self.collected, strict=True)]
            oldest = 2 if any(since[1:]) else int(since[0])
            before = [hooks for known in self.known.values() if (hooks := known.ref())]
            for hooks in list(_registered(self.seen, last, before, oldest)):
                self.known[id(hooks)] = _Known(hooks)
            self.seen = last
        self.collected = collected

    def alive(self) -> list[tuple[_Known, _Dict]]:
        """All that still have hooks."""
        found = []
        for key, known in list(self.known.items()):
            hooks = known.ref()
            if hooks:
                found.append((known, hooks))
            elif hooks is None:
                del self.known[key]
        return found


def _registered(first: int, last: int, known: Iterable[_Dict], oldest: int) -> Iterator[_Dict]:
    """The dictionaries of the hooks with these numbers.

    Args:
        first: the first number.
        last: the one after the last.
        known: dictionaries that may have got some of them.
        oldest: the oldest generation of objects to look at, 0 to 2.
    """
    missing = set(range(first, last))
    young = (gc.get_objects(generation=generation) for generation in range(oldest + 1))
    for values in chain([known], young):
        for value in values:
            if type(value) is not OrderedDict or not value:
                continue
            keys = missing.intersection(value) if type(next(iter(value))) is int else ()
            if keys and not any(isinstance(hook, nn.Module) for hook in value.values()):
                yield value
                missing.difference_update(keys)
        if not missing:
            return


_REGISTER = _Register()


@contextmanager
def unwatched() -> Iterator[None]:
    """Hooks registered meanwhile are no user's, and on no tensor."""
    _REGISTER.update()
    try:
        yield
    finally:
        _REGISTER.seen = RemovableHandle.next_id


class Aside:
    """The hooks that a backward through the terms could call, set aside for a while.

    Made after the terms' forward. Hooks on leaves are called when the combined gradient comes to
    the leaf, those on the given nodes when it comes to the node: both are only left out.

    Args:
        leaves: leaf tensors.
        nodes: nodes of the graph.

    Example:
        >>> x = torch.ones(2, requires_grad=True)
        >>> y = 2 * x
        >>> handle = y.register_hook(lambda grad: print("called") or 10 * grad)
        >>> aside = Aside([x], [])
        >>> with aside.taken(term=0):
        ...     torch.autograd.grad(y.sum(), x, retain_graph=True)
        (tensor([2., 2.]),)
        >>> aside.between
        {0}
        >>> torch.autograd.grad(y.sum(), x)
        called
        (tensor([20., 20.]),)
    """

    def __init__(self, leaves: Collection[Tensor], nodes: Iterable[Any]) -> None:
        self._leaves = leaves
        self._nodes = set(nodes)
        self._called: dict[int, set[int]] = {}
        self._places: dict[int, set[Any]] = {}
        self._all = False
        _REGISTER.update()
        self._before = set(_REGISTER.known)
        _REGISTER.pending.add(self)

    def possible(self) -> bool:
        """Whether there may be hooks between the terms and these leaves and nodes."""
        _REGISTER.update()
        own = self._own()
        self._all = any(
            not known.idle and id(hooks) not in own for known, hooks in _REGISTER.alive()
        )
        return self._all

    @property
    def between(self) -> set[int]:
        """The terms whose passes would have called a hook that is neither on a leaf nor on one of
        the given nodes."""
        return set().union(*self._called.values())

    @property
    def shared(self) -> bool:
        """Whether one of these hooks would have been called by several terms' passes."""
        return any(len(terms) > 1 for terms in self._called.values())

    @contextmanager
    def taken(self, term: int) -> Iterator[None]:
        """No hook is called meanwhile; those that would have been are noted for this term."""

        def note(key: int) -> None:
            self._called.setdefault(key, set()).add(term)
            self._places.setdefault(key, set()).add(torch._C._current_autograd_node())

        with self._replaced(note):
            yield

    def must_not_change(self, term: int, at: Callable[[Any], bool], message: str) -> None:
        """Hooks that this term's passes alone would have called, at some nodes, end the backward
        to come if they change its gradient.

        Args:
            term: the term.
            at: whether a node is one of them.
            message: what is wrong with a change.
        """
        for _, hooks in _REGISTER.alive():
            key = id(hooks)
            if self._called.get(key) == {term} and any(map(at, self._places[key])):
                for number, hook in list(hooks.items()):
                    hooks[number] = _Unchanging(hook, hooks, number, message)

    @contextmanager
    def ends_taken(self) -> Iterator[None]:
        """Hooks on the leaves and the given nodes are not called meanwhile."""
        with self._replaced(None):
            yield

    def done(self) -> None:
        """What was not called, and can belong to no other backward to come, is of no interest."""
        _REGISTER.pending.discard(self)
        if _REGISTER.pending:
            return
        for known, hooks in _REGISTER.alive():
            if id(hooks) in self._before and id(hooks) not in self._called:
                known.idle = True

    def _own(self) -> set[int]:
        return {id(hooks) for leaf in self._leaves if (hooks := leaf._backward_hooks)}

    @contextmanager
    def _replaced(self, note: Callable[[int], Any] | None) -> Iterator[None]:
        _REGISTER.update()
        leaves: list[Any] = [hooks for leaf in self._leaves if (hooks := leaf._backward_hooks)]
        own = {id(hooks) for hooks in leaves}
        others = [hooks for _, hooks in _REGISTER.alive() if id(hooks) not in own]
        replaced: list[tuple[_Dict, dict[int, Callable[..., Any]]]] = []
        for hooks in (*leaves, *others):
            replaced.append((hooks, dict(hooks)))
            noted = None if id(hooks) in own else note
            live = note is None and id(hooks) not in own
            for number, hook in hooks.items():
                if not _machinery(hook):
                    hooks[number] = _InPlace(hook, id(hooks), self._nodes, noted, live)
        try:
            yield
        finally:
            for hooks, before in replaced:
                for number, hook in before.items():
                    if number in hooks:
                        hooks[number] = hook


class _InPlace:
    """Stands in the place of a hook.

    Args:
        hook: the hook, which is called where this is no gradient.
        key: tells its dictionary.
        nodes: those whose hooks are left out.
        note: told the key where the hook was left out elsewhere.
        live: whether the hook is called elsewhere.
    """

    def __init__(
        self,
        hook: Callable[..., Any],
        key: int,
        nodes: Collection[Any],
        note: Callable[[int], Any] | None,
        live: bool,
    ) -> None:
        self.hook, self.key, self.nodes, self.note, self.live = hook, key, nodes, note, live

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not args or not (args[0] is None or isinstance(args[0], Tensor | tuple)):
            return self.hook(*args, **kwargs)  # a module's in a recomputed forward, an optimizer's
        if torch._C._current_autograd_node() in self.nodes:
            return None
        if self.live:
            return self.hook(*args, **kwargs)
        if self.note is not None:
            self.note(self.key)
        return None


class _Unchanging:
    """Stands in the place of a hook for one call, which must leave the gradient as it is."""

    def __init__(
        self, hook: Callable[..., Any], hooks: _Dict, number: int, message: str
    ) -> None:
        self.hook, self.hooks, self.number, self.message = hook, hooks, number, message

    def __call__(self, given: Any, *others: Any) -> Any:
        if self.number in self.hooks:
            self.hooks[self.number] = self.hook
        made = self.hook(given, *others)
        if made is not None and made is not given:
            before, after = (x if isinstance(x, tuple) else (x,) for x in (given, made))
            for old, new in zip(before, after, strict=True):
                if old is not new and (old is None or new is None or not torch.equal(old, new)):
                    name = getattr(self.hook, "__qualname__", type(self.hook).__qualname__)
                    raise LossweaveError(f"the hook {name!r} {self.message}")
        return made


def _machinery(hook: Any) -> bool:
    """Whether each pass needs it, as a parallel wrapper's that gathers parameters."""
    module = getattr(getattr(hook, "func", hook), "__module__", None) or ""
    return module.startswith("torch.distributed")
