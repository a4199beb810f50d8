"""Where the terms' gradients are combined: the boundary, caught during a model's forward."""

import logging
import weakref
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from difflib import get_close_matches
from fnmatch import fnmatchcase
from hashlib import blake2b
from typing import Any

import torch
from torch import Tensor, nn

from lossweave.backward._graph import Caught, Point, following, point_of, reach
from lossweave.backward._hooks import unwatched
from lossweave.backward._parting import parting
from lossweave.errors import LossweaveError
from lossweave.utils import distributed

__all__ = ["Boundary"]

_LOGGER = logging.getLogger("lossweave")
#: Forwards whose losses are still to come, at the most: what is caught keeps their graphs alive.
_WAITING = 4
#: What a boundary may be beside names of modules.
_WORDS = ("parameters", "features", "representation")


@dataclass
class _Forward:
    """What was caught in one training forward.

    Args:
        open: whether its modules are above the features.
        features: what the model handed to :meth:`Boundary.features`.
        caught: what modules returned.
        others: modules below the chosen ones that returned something.
    """

    open: bool = False
    features: list[Point] = field(default_factory=list)
    caught: list[Caught] = field(default_factory=list)
    others: list[str] = field(default_factory=list)

    @property
    def points(self) -> list[Point]:
        """All that was caught."""
        return [*self.features, *(point for _, point in self.caught)]


class Boundary:
    """The tensors at which the terms' gradients are combined.

    A boundary tensor is caught as an ALIAS that all that follows consumes. Where one boundary
    tensor is computed from another (the P7 of a feature pyramid from its P6), the gradient
    with respect to the alias is then what comes from the heads alone.

    - ``parameters``: no tensor but the shared parameters themselves.
    - ``features``: what the model hands to :meth:`features`.
    - ``representation``: the last tensors that two or more terms share. The first forward
      in which every term is there catches what every module above the features returns; of
      these, those are kept that the terms' graphs part behind, until other parameters are
      trained. Where nothing above the features is shared, and until then, it is the features.
    - names of modules, or patterns of :mod:`fnmatch`: what these modules return.

    Args:
        where: as above.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 2))
        >>> boundary = Boundary(["1"])
        >>> with boundary.caught(model):
        ...     losses = model(torch.ones(1, 2)).sum(0).unbind()
        >>> [tuple(point.tensor.shape) for point in boundary.take(losses)]
        [(1, 3)]
    """

    _waiting: list[_Forward]

    def __init__(self, where: str | Sequence[str]) -> None:
        self.where = where
        #: The modules found for 'representation'; empty where it comes down to the features.
        self.found: tuple[str, ...] | None = None
        #: Tells which parameters were trained when they were found; empty where it is not known.
        self.trained = ""
        self._begin()

    def _begin(self) -> None:
        """What is known of the model alone."""
        self._above: set[int] = set()
        self._apart = False  # none of the chosen modules' outputs is known to feed another's
        self._caught_before = False
        self._said = False
        self._model: Callable[[], nn.Module | None] = lambda: None
        self._parameters: list[tuple[str, nn.Parameter]] = []
        self._flags: list[bool] = []
        self._chosen = frozenset[str]()
        self.forget()

    @property
    def needs_features(self) -> bool:
        """Whether the model's features must be handed to :meth:`features`."""
        return self.where in ("features", "representation")

    @property
    def needs_forward(self) -> bool:
        """Whether forward must run inside :meth:`caught`."""
        return self.where != "parameters"

    def refuse_unknown(self, model: nn.Module) -> None:
        """Refuse names that no module has, before a forward does.

        Raises:
            LossweaveError: a pattern matches no module.
        """
        if self.where not in _WORDS:
            self._watched(model)

    # ----------------------------------------------------------------- during the forward

    @contextmanager
    def caught(self, model: nn.Module) -> Iterator[None]:
        """Catch the boundary's tensors while the model's training forward runs.

        Hooks are there for this time only, so nothing of them is copied or saved. Several
        forwards may come before the losses of the first are taken.

        Raises:
            LossweaveError: a pattern matches no module.
        """
        if not torch.is_grad_enabled() or self.where == "parameters":
            yield
            return
        self._begin_forward()
        if self.where == "features":
            yield
            return
        self._chosen = frozenset()
        if self.where == "representation":
            self._look_at(model)
        with unwatched():
            handles = [
                module.register_forward_hook(self._hook(name))
                for name, module in self._watched(model).items()
            ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def features(self, features: Any) -> Any:
        """Take note of the model's features; what it returns is to be used in their place."""
        if not torch.is_grad_enabled() or not self.needs_features:
            return features
        if not self._waiting:
            self._begin_forward()
        now = self._waiting[-1]
        now.open = True
        return features if self.found else _aliased(features, now.features.append)

    def _begin_forward(self) -> None:
        self._waiting = [*self._waiting[1 - _WAITING :], _Forward(not self.needs_features)]

    def _hook(self, name: str) -> Callable[..., Any]:
        now = self._waiting[-1]

        def hook(module: nn.Module, inputs: Any, output: Any) -> Any:
            if not now.open or not torch.is_grad_enabled():
                return None
            if self._chosen and name not in self._chosen:  # looked at, for what might be chosen
                _aliased(output, lambda point: now.others.append(name))
                return None
            return _aliased(output, lambda point: now.caught.append((name, point)))

        return hook

    def _look_at(self, model: nn.Module) -> None:
        """Forget what was found where the model has other modules, or trains other parameters."""
        if self._model() is not model:
            self._model = weakref.ref(model)
            self._parameters, self._flags = list(model.named_parameters()), []
        flags = [parameter.requires_grad for _, parameter in self._parameters]
        if flags == self._flags:
            return
        self._flags = flags
        names = "\n".join(name for name, p in self._parameters if p.requires_grad)
        trained = blake2b(names.encode(), digest_size=8).hexdigest()
        known = {name for name, _ in model.named_modules()}
        if self.found is not None and (
            self.trained not in ("", trained) or not known.issuperset(self.found)
        ):
            self.found = None
        self.trained = trained
        self._above = set()

    def _watched(self, model: nn.Module) -> dict[str, nn.Module]:
        if self.where == "representation" and self.found is not None:
            # To walk over all modules takes as long as the passes of several terms.
            return {name: model.get_submodule(name) for name in self.found}
        modules = {name: module for name, module in model.named_modules() if name}
        if self.where == "representation":
            return modules
        chosen: dict[str, nn.Module] = {}
        for pattern in self.where:
            matching = {n: m for n, m in modules.items() if fnmatchcase(n, pattern)}
            if not matching:
                known = [*(word for word in _WORDS if word != pattern), *modules]
                near = get_close_matches(pattern, known, n=3, cutoff=0.4)
                hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
                raise LossweaveError(f"boundary: no module matches {pattern!r}{hint}")
            chosen.update(matching)
        if not self._caught_before:
            self._chosen = frozenset(chosen)
            below = tuple(f"{name}." for name in chosen)
            chosen.update({name: m for name, m in modules.items() if name.startswith(below)})
        return chosen

    def forget(self) -> None:
        """Forget forwards whose losses have not come: an iteration begins."""
        self._waiting = []

    # ------------------------------------------------------------------ after the forward

    def take(self, terms: Sequence[Tensor | None]) -> list[Point]:
        """The boundary's points of the forward that made these terms, once.

        With 'representation' it is a collective until all ranks have agreed on the modules.

        Args:
            terms: attached scalars; None where a term is absent.

        Raises:
            LossweaveError: the boundary was not caught, or one of its tensors is computed
                from another.
        """
        forwards = self._made(terms)
        features = [point for forward in forwards for point in forward.features]
        caught = [one for forward in forwards for one in forward.caught]
        if any(term is not None and term.requires_grad for term in terms):
            self._refuse_nothing(forwards)
        if self.where == "parameters":
            return []
        if self.where == "features":
            return features
        if self.where == "representation":
            if self.found is None:
                self._find(terms, features, caught)
            if not self.found:
                return features
            return [point for name, point in caught if name in self.found]
        self._refuse_nested(caught)
        return [point for _, point in caught]

    def _made(self, terms: Sequence[Tensor | None]) -> list[_Forward]:
        """The forwards that made these terms; they wait no longer."""
        waiting = self._waiting
        if len(waiting) < 2 or not any(forward.points for forward in waiting):
            self.forget()
            return waiting
        cut = {point.node: i for i, forward in enumerate(waiting) for point in forward.points}
        walk = reach([term for term in terms if term is not None], cut)
        met = {cut[node] for node in walk.cut}
        if walk.nodes and not met:
            raise LossweaveError(
                f"boundary={self.where!r}: these losses are not of the last {len(waiting)} "
                "forwards, or go around what was caught in them; combine a forward's losses "
                "(parse_losses) before more forwards, or use boundary='parameters'"
            )
        self._waiting = [forward for i, forward in enumerate(waiting) if i not in met]
        return [forward for i, forward in enumerate(waiting) if i in met]

    def _refuse_nothing(self, forwards: Sequence[_Forward]) -> None:
        """A boundary that catches nothing would be another one."""
        if self.where == "parameters":
            return
        if self.needs_features:
            if not any(forward.open for forward in forwards):
                raise LossweaveError(
                    f"boundary={self.where!r}: the forward that made these losses handed over no "
                    "features (extract_feat, or the backbone, was not called in it); name "
                    "modules, or use boundary='parameters'"
                )
            return
        names = {name for forward in forwards for name, _ in forward.caught}
        if not self._caught_before:
            for pattern in self.where:
                if not any(fnmatchcase(name, pattern) for name in names):
                    others = {name for forward in forwards for name in forward.others}
                    raise LossweaveError(_nothing_of(pattern, self._chosen, others))
        elif not names and not self._said:
            self._said = True
            _LOGGER.warning(
                "boundary=%r: in this iteration these modules returned no tensor that carries a "
                "gradient, so gradients are combined at the parameters",
                self.where,
            )
        self._caught_before = True

    def _find(
        self,
        terms: Sequence[Tensor | None],
        features: Sequence[Point],
        caught: Sequence[Caught],
    ) -> None:
        complete = all(term is not None and term.requires_grad for term in terms)
        own = parting(terms, features, caught) if complete else None
        known = [found for found in distributed.gather_objects(own) if found is not None]
        if known:  # else a term is absent from all ranks, and the next iteration may know more
            self.found = known[0]

    def _refuse_nested(self, caught: Sequence[Caught]) -> None:
        """Names of modules may be chosen such that one's output feeds another's."""
        if self._apart:
            return
        nodes = {point.node: name for name, point in caught}
        for name, point in caught:
            below = reach(following(point.node, 0)).nodes
            for node, other in nodes.items():
                if node in below:
                    raise LossweaveError(
                        f"boundary: what {name!r} returns is computed from what {other!r} "
                        "returns; name one of them"
                    )
        self._apart = bool(caught)

    def check(
        self,
        points: Sequence[Point],
        leaves: Sequence[Tensor],
        term_of: Callable[[Tensor], str],
        model: nn.Module | None = None,
    ) -> None:
        """Refuse a boundary that a term goes around.

        Args:
            points: the boundary's.
            leaves: what is reached without passing it.
            term_of: tells which term reaches a leaf.
            model: has names for its parameters.

        Raises:
            LossweaveError: a leaf is reached both ways; names its module.
        """
        if not points:
            return
        fresh = {id(leaf): leaf for leaf in leaves if id(leaf) not in self._above}
        if not fresh:
            return
        below = {id(leaf) for leaf in reach(p.tensor for p in points).leaves}
        for key, leaf in fresh.items():
            if key in below:
                parameters = [] if model is None else model.named_parameters()
                names = {id(parameter): name for name, parameter in parameters}
                module = names.get(key, "a tensor").rpartition(".")[0] or names.get(key, "a tensor")
                raise LossweaveError(
                    f"boundary={self.where!r} lies above {module!r}, which the term "
                    f"{term_of(leaf)!r} reaches around it as well; choose a "
                    "boundary that all its paths cross, or boundary='parameters'"
                )
        self._above.update(fresh)

    # --------------------------------------------------------------------------- copies

    def __getstate__(self) -> dict[str, Any]:
        return {"where": self.where, "found": self.found, "trained": self.trained}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.where, self.found, self.trained = state["where"], state["found"], state["trained"]
        self._begin()


def _nothing_of(pattern: str, chosen: Collection[str], others: Collection[str]) -> str:
    own = sorted(name for name in chosen if fnmatchcase(name, pattern))
    below = sorted({o for o in others if any(o.startswith(f"{n}.") for n in own)})
    more = " ..." if len(below) > 5 else ""
    hint = f"; below it these do: {', '.join(below[:5])}{more}" if below else ""
    return (
        f"boundary: {pattern!r} returned no tensor that carries a gradient (in the training "
        f"forward it was not called, or what it returned needs none){hint}"
    )


def _aliased(value: Any, note: Callable[[Point], None]) -> Any:
    """The value with every differentiable tensor in it replaced by an alias that is noted."""
    if isinstance(value, Tensor):
        if not value.requires_grad or value.is_leaf:
            return value
        alias, point = point_of(value)
        note(point)
        return alias
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_aliased(part, note) for part in value))
    if type(value) in (tuple, list):
        return type(value)(_aliased(part, note) for part in value)
    if type(value) is dict:
        return {key: _aliased(part, note) for key, part in value.items()}
    return value
