"""A staged training as data: what each stage trains, what it leaves alone, and what it starts from.

Everything that can be wrong with a schedule is found here, before anything is trained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Annotated, Any, get_type_hints

from lossweave.combination.terms import HEAD_TERMS
from lossweave.errors import LossweaveError
from lossweave.utils.fields import COUNT, COUNT_OR_NONE, RATE, above, between, check_value

__all__ = ["FRESH", "INITIAL", "PARTS", "Budget", "Schedule", "Stage", "listed"]

#: The parts of a two-stage detector, from the image on.
PARTS = ("backbone", "neck", "rpn_head", "roi_head")
#: Sources of weights that are no stage: the seed's first weights, the same for every stage
#: that asks for them, and a new draw of the stage's own (pretrained weights stay pretrained).
INITIAL, FRESH = "initial", "fresh"

_TERMS_OF = {
    "rpn_head": tuple(t for t in HEAD_TERMS if t.startswith("rpn_")),
    "roi_head": tuple(t for t in HEAD_TERMS if t.startswith("roi_")),
}


@dataclass(frozen=True)
class Budget:
    """How long a stage trains, and how fast.

    Args:
        iterations: of training.
        batch_size: images per iteration and process; None means the config's.
        lr: base learning rate; None means the config's.
        drops: iterations after which the learning rate is multiplied by ``factor``.
        factor: that factor.
        warmup: iterations in which the learning rate rises linearly to its value.
        warmup_factor: the share of it to begin with.

    Raises:
        LossweaveError: a value out of its range.

    Example:
        >>> Budget(80_000, batch_size=1, lr=1e-3, drops=(60_000,)).images
        80000
    """

    iterations: COUNT
    batch_size: Annotated[int, between(1, 10**6)] | None = None
    lr: Annotated[RATE, above(0)] | None = None
    drops: tuple[COUNT, ...] = ()
    factor: Annotated[float, above(0), between(0, 1)] = 0.1
    warmup: COUNT_OR_NONE = 0
    warmup_factor: Annotated[float, above(0), between(0, 1)] = 0.1

    def __post_init__(self) -> None:
        object.__setattr__(self, "drops", listed(self.drops))
        _check_fields(self, "budget")
        if list(self.drops) != sorted(set(self.drops)):
            raise LossweaveError(f"budget: drops={self.drops} should rise")

    @property
    def images(self) -> int:
        """Images in training steps, on one process; with the config's batch size, 0."""
        return self.iterations * (self.batch_size or 0)


@dataclass(frozen=True)
class Stage:
    """One stage. Its network is made of the parts that it trains and those that it freezes.

    Args:
        name: unique; also the name of its folder.
        trained: parts that it trains.
        frozen: parts, or modules of them by their path (``'backbone.conv1'``), that it uses
            and leaves bit-identical.
        terms: losses that are optimised, of ``rpn_cls, rpn_loc, roi_cls, roi_loc``; None means
            all of the trained heads.
        init: for each part of the network, or module of it, where its weights come from: the
            name of an earlier stage, 'initial' or 'fresh'. The longest path that fits counts.
        proposals: the earlier stage whose network has made the proposals that a RoI head is
            trained on; None where an RPN that is trained in the same stage makes them.
        budget: how long, how fast.

    Example:
        >>> Stage("rpn1", trained=("backbone", "neck", "rpn_head"), budget=Budget(10),
        ...       init=dict.fromkeys(PARTS, "initial")).network
        ('backbone', 'neck', 'rpn_head')
    """

    name: str
    trained: tuple[str, ...]
    budget: Budget
    frozen: tuple[str, ...] = ()
    terms: tuple[str, ...] | None = None
    init: Mapping[str, str] = field(default_factory=dict)
    proposals: str | None = None

    def __post_init__(self) -> None:
        for name in ("trained", "frozen", "terms"):
            object.__setattr__(self, name, listed(getattr(self, name)))
        _check_fields(self, f"stage {self.name!r}")

    @property
    def network(self) -> tuple[str, ...]:
        """Parts that the stage's network is made of, in order."""
        used = {path.split(".")[0] for path in (*self.trained, *self.frozen)}
        return tuple(part for part in PARTS if part in used)

    @property
    def active_terms(self) -> tuple[str, ...]:
        """The terms that are optimised."""
        if self.terms is not None:
            return self.terms
        return tuple(t for head, terms in _TERMS_OF.items() if head in self.trained for t in terms)

    def source(self, path: str) -> str | None:
        """Where the weights of a module come from, by the longest path that fits."""
        names = path.split(".")
        for length in range(len(names), 0, -1):
            found = self.init.get(".".join(names[:length]))
            if found is not None:
                return found
        return None


def listed(value: Any) -> Any:
    """A list as a tuple; a name or number in the place of a list is one of one.

    Example:
        >>> listed("rpn_head"), listed([1, 2]), listed(None)
        (('rpn_head',), (1, 2), None)
    """
    if isinstance(value, (str, int)):
        return (value,)
    return tuple(value) if isinstance(value, list) else value


def _check_fields(given: Any, label: str) -> None:
    hints = get_type_hints(type(given), include_extras=True)
    for each in fields(given):
        check_value(f"{label}: {each.name}", getattr(given, each.name), hints[each.name])


class Schedule:
    """Stages in order, checked.

    Args:
        stages: in the order of training.
        parts: the parts that the detector has, e.g. no neck.

    Raises:
        LossweaveError: no stage, a stage that trains nothing or freezes what it trains, an
            unknown part, term or stage, or proposals or weights from a later stage.

    Example:
        >>> stage = Stage("joint", trained=PARTS, budget=Budget(100),
        ...               init=dict.fromkeys(PARTS, INITIAL))
        >>> Schedule([stage]).unified
        True
        >>> Schedule([Stage("joint", trained=(), budget=Budget(100))])
        Traceback (most recent call last):
        ...
        lossweave.errors.LossweaveError: stage 'joint' trains nothing
    """

    def __init__(self, stages: Sequence[Stage], parts: Sequence[str] = PARTS) -> None:
        self.stages = tuple(stages)
        self.parts = tuple(part for part in PARTS if part in parts)
        self._check()

    def __getitem__(self, name: str) -> Stage:
        return next(stage for stage in self.stages if stage.name == name)

    def index(self, name: str) -> int:
        """Position of a stage, from 0."""
        return [stage.name for stage in self.stages].index(name)

    # ------------------------------------------------------------------ what follows from it

    def makes_proposals(self, name: str) -> bool:
        """Whether a later stage is trained on this stage's proposals."""
        return any(stage.proposals == name for stage in self.stages)

    def last(self, part: str, until: str | None = None) -> Stage | None:
        """The last stage, up to and including ``until``, whose network has the part."""
        found = None
        for stage in self.stages:
            if part in stage.network:
                found = stage
            if stage.name == until:
                break
        return found

    def lineage(self, stage: str, part: str) -> str:
        """The stage that trained the weights that a part has after a stage, or 'initial'.

        Two networks whose lineage of a part is the same have the same weights in it.
        """
        here = self[stage]
        if part in here.trained:
            return stage
        sources = {s for path, s in here.init.items() if path.split(".")[0] == part}
        if len(sources) != 1:  # put together from several: like no other
            return stage
        (source,) = sources
        if source == FRESH:
            return f"{stage} ({FRESH})"
        return source if source == INITIAL else self.lineage(source, part)

    def share(self, rpn: Stage, roi: Stage) -> bool:
        """Whether two stages end with the same backbone and neck, and so make one detector."""
        shared = [part for part in ("backbone", "neck") if part in self.parts]
        return all(self.lineage(rpn.name, p) == self.lineage(roi.name, p) for p in shared)

    @property
    def unified(self) -> bool:
        """Whether the last RPN and the last RoI head make one detector."""
        rpn, roi = self.last("rpn_head"), self.last("roi_head")
        return rpn is not None and roi is not None and self.share(rpn, roi)

    # --------------------------------------------------------------------------- checking

    def _check(self) -> None:
        if not self.stages:
            raise LossweaveError("a schedule needs at least one stage")
        names = [stage.name for stage in self.stages]
        for index, stage in enumerate(self.stages):
            if not stage.name.replace("-", "_").isidentifier():
                raise LossweaveError(f"{stage.name!r} is not the name of a stage: use letters")
            if names.index(stage.name) != index:
                raise LossweaveError(f"two stages are named {stage.name!r}")
            self._check_parts(stage)
            self._check_terms(stage)
            self._check_init(stage, names, index)
            self._check_proposals(stage, names, index)

    def _check_parts(self, stage: Stage) -> None:
        if not stage.trained:
            raise LossweaveError(f"stage {stage.name!r} trains nothing")
        for path in stage.trained:
            self._known_part(stage, "trained", path, whole=True)
        for path in stage.frozen:
            self._known_part(stage, "frozen", path, whole=False)
        for path in stage.frozen:
            if path in stage.trained:
                raise LossweaveError(f"stage {stage.name!r} freezes {path!r}, which it trains")
        heads = [part for part in stage.network if part in _TERMS_OF]
        if not any(head in stage.trained for head in heads):
            what = "has no head" if not heads else f"trains no head (it freezes {heads[0]!r})"
            raise LossweaveError(f"stage {stage.name!r} {what}, so it has no losses")
        for part in ("backbone", "neck"):
            if part in self.parts and part not in stage.network:
                raise LossweaveError(
                    f"stage {stage.name!r} neither trains nor freezes {part!r}, which heads need"
                )

    def _known_part(self, stage: Stage, role: str, path: str, whole: bool) -> None:
        part = path.split(".")[0] if isinstance(path, str) else path
        if part in self.parts and (not whole or part == path):
            return
        near = get_close_matches(str(part), self.parts, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(self.parts)}"
        raise LossweaveError(f"stage {stage.name!r}, {role}: unknown part {path!r}{hint}")

    def _check_terms(self, stage: Stage) -> None:
        if not stage.active_terms:
            raise LossweaveError(f"stage {stage.name!r} has no active terms")
        for term in stage.active_terms:
            if term not in HEAD_TERMS:
                raise LossweaveError(
                    f"stage {stage.name!r}: unknown term {term!r}; there are "
                    + ", ".join(HEAD_TERMS)
                )
            head = next(h for h, terms in _TERMS_OF.items() if term in terms)
            if head not in stage.trained:
                raise LossweaveError(
                    f"stage {stage.name!r} optimises {term!r} but does not train {head!r}"
                )

    def _check_init(self, stage: Stage, names: list[str], index: int) -> None:
        for path, source in stage.init.items():
            self._known_part(stage, "init", path, whole=False)
            if source in (INITIAL, FRESH):
                continue
            part = path.split(".")[0]
            self._earlier(stage, f"weights of {path!r}", source, names, index)
            if part not in self[source].network:
                raise LossweaveError(
                    f"stage {stage.name!r} takes {path!r} from {source!r}, which has no {part!r}"
                )
        for part in stage.network:
            if not any(path.split(".")[0] == part for path in stage.init):
                raise LossweaveError(
                    f"stage {stage.name!r} does not say where the weights of {part!r} come from "
                    f"(init: a stage, {INITIAL!r} or {FRESH!r})"
                )

    def _check_proposals(self, stage: Stage, names: list[str], index: int) -> None:
        if stage.proposals is None:
            if "roi_head" in stage.trained and "rpn_head" not in stage.trained:
                raise LossweaveError(
                    f"stage {stage.name!r} trains a RoI head, so it needs `proposals`: a stage"
                )
            return
        if "rpn_head" in stage.network:
            raise LossweaveError(
                f"stage {stage.name!r} has an RPN of its own and fixed proposals; choose one"
            )
        self._earlier(stage, "proposals", stage.proposals, names, index)
        if "rpn_head" not in self[stage.proposals].network:
            raise LossweaveError(
                f"stage {stage.name!r} takes proposals from {stage.proposals!r}, which has no RPN"
            )

    def _earlier(self, stage: Stage, what: str, source: str, names: list[str], index: int) -> None:
        if source not in names:
            near = get_close_matches(str(source), names, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(names)}"
            raise LossweaveError(
                f"stage {stage.name!r}: {what} from unknown stage {source!r}{hint}"
            )
        if names.index(source) >= index:
            when = "itself" if source == stage.name else f"the later stage {source!r}"
            raise LossweaveError(f"stage {stage.name!r} takes {what} from {when}")
