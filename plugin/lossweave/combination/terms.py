"""Which of a detector's raw losses make up which term.

A detector returns a dictionary of raw losses. A :class:`TermMap` names the TERMS that a
combiner works on and says, by shell-style patterns, which entries belong to each.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

from lossweave.combination.names import HEAD_TERMS, RPN_TERMS, TASK_TERMS
from lossweave.combination.views import VIEWS, base_of_level, is_per_level, split_levels
from lossweave.errors import LossweaveError

__all__ = ["HEAD_TERMS", "RPN_TERMS", "TASK_TERMS", "Assignment", "TermMap"]


@dataclass(frozen=True)
class Assignment:
    """Which entries make up which term in one iteration.

    Args:
        entries: per term, in the order of the terms, the names of its entries (an empty
            tuple where the term is absent).
        extra: entries that no pattern claims.
    """

    entries: tuple[tuple[str, ...], ...]
    extra: tuple[str, ...]


class TermMap:
    """Assign the entries of a loss dictionary to named terms.

    Patterns are those of :mod:`fnmatch`. An entry goes to the FIRST term, in order, that
    has a pattern matching it. A pattern that begins with ``?`` may match nothing, for losses
    that appear late in training (``'?loss_l1'``). One that ends in ``[0]`` is the first level
    of a loss that comes as a list (``'loss_cls[0]'``); what no such pattern claims of that list
    is matched by its name without the number.

    Args:
        patterns: for each term, in order, its patterns.
        strict: whether every single pattern must match something (the built-in maps list
            the names of many detectors, so there a term needs only one that does).
        view: for terms that follow from the losses of the first training forward, what they
            are, one of :data:`VIEWS`, 'head' or 'auto'; see :meth:`settled_for`.

    Raises:
        LossweaveError: no term, a term without patterns, or a value of another type.

    Example:
        >>> terms = TermMap({"cls": ["loss_cls*"], "loc": ["loss_bbox*", "?loss_l1"]})
        >>> terms.assign(["loss_cls", "loss_bbox", "loss_obj"])
        Assignment(entries=(('loss_cls',), ('loss_bbox',)), extra=('loss_obj',))
    """

    def __init__(
        self,
        patterns: Mapping[str, Sequence[str]],
        strict: bool = True,
        view: str | None = None,
    ) -> None:
        if not isinstance(patterns, Mapping):
            raise LossweaveError(f"terms={patterns!r} should be a dict from names to patterns")
        if not patterns and view is None:
            raise LossweaveError("terms is empty: name at least one term and its patterns")
        self.patterns = {name: _checked(name, value) for name, value in patterns.items()}
        _check_logged(self.patterns)
        self.names = tuple(self.patterns)
        self.strict = strict
        self.view = view
        self._levels = [
            base_of_level(pattern.removeprefix("?"))
            for own in self.patterns.values()
            for pattern in own
            if is_per_level(pattern)
        ]
        self._cache: dict[tuple[str, ...], Assignment] = {}
        self._told: set[str] = set()

    @classmethod
    def by_task(cls) -> "TermMap":
        """The terms ``cls`` and ``loc``, for every detector that follows the usual names."""
        return cls(TASK_TERMS, strict=False)

    @classmethod
    def by_head(cls, rpn: bool, roi: bool) -> "TermMap":
        """``rpn_cls, rpn_loc, roi_cls, roi_loc``, or the part of it that the detector has.

        Args:
            rpn: whether the detector has a region proposal network.
            roi: whether it has a RoI head. With neither, these are the terms by task.
        """
        if rpn:
            return cls(HEAD_TERMS if roi else RPN_TERMS, strict=False)
        return cls.by_task()

    @classmethod
    def by_view(cls, view: str) -> "TermMap":
        """Terms that are not known before the first training forward: see :data:`VIEWS`.

        Args:
            view: 'loss', 'layer' or 'level'; or 'auto', which is 'task' where that fits and
                else 'loss'; or 'head', for a detector whose heads are not known otherwise.
        """
        return cls(TASK_TERMS, strict=False, view=view) if view == "auto" else cls({}, view=view)

    def settled_for(self, entries: Iterable[str]) -> "TermMap":
        """What the map is for a detector with these losses: itself, unless it has a view.

        Raises:
            LossweaveError: the view fits none of the losses.

        Example:
            >>> TermMap.by_view("loss").settled_for(["loss_pos", "loss_neg"])
            TermMap({'pos': ('loss_pos',), 'neg': ('loss_neg',)})
            >>> TermMap.by_view("auto").settled_for(["loss_cls", "loss_bbox"]).names
            ('cls', 'loc')
        """
        if self.view is None:
            return self
        names = tuple(entries)
        if self.view == "head":
            rpn, roi = (
                any(any(_matches(p, name) for p in HEAD_TERMS[term]) for name in names)
                for term in ("rpn_cls", "roi_cls")
            )
            by_head = TermMap.by_head(rpn, roi)
            return TermMap(by_head.patterns, strict=False, view="head")
        if self.view != "auto":
            return TermMap(VIEWS[self.view](names), view=self.view)
        by_task = TermMap.by_view("auto")
        try:
            by_task.check(names)
        except LossweaveError:
            return TermMap(VIEWS["loss"](names), view="auto")
        return by_task

    def split(self, entries: Mapping[str, Any], raw: Mapping[str, Any]) -> Mapping[str, Any]:
        """The entries, with the levels of those lists apart that the terms ask for by level.

        Args:
            entries: the losses by name, each reduced to a scalar as the framework does it.
            raw: the losses as the detector returned them.
        """
        if not self.asks_levels:
            return entries
        if self.view == "level":
            return split_levels(entries, raw, lambda name: True)
        return split_levels(
            entries, raw, lambda name: any(fnmatchcase(name, level) for level in self._levels)
        )

    @property
    def asks_levels(self) -> bool:
        """Whether some terms are levels of lists."""
        return self.view == "level" or bool(self._levels)

    def assign(self, entries: Iterable[str]) -> Assignment:
        """The assignment of the given entries; remembered, since it is asked every iteration."""
        key = tuple(entries)
        found = self._cache.get(key)
        if found is None:
            found = self._cache[key] = self._assign(key)
        return found

    def check(self, entries: Iterable[str]) -> None:
        """Refuse patterns that match none of the entries of the first training forward.

        Raises:
            LossweaveError: naming the term, the pattern and the entries that there are.
        """
        names = tuple(entries)
        seen = ", ".join(names) or "none"
        if not any(self.assign(names).entries) and all(
            pattern.startswith("?") for patterns in self.patterns.values() for pattern in patterns
        ):
            raise LossweaveError(
                f"no term has any loss: every pattern of {', '.join(self.names)} begins with '?' "
                f"and matches nothing; the detector's losses are: {seen}"
            )
        assigned = dict(zip(self.names, self.assign(names).entries, strict=True))
        for term, patterns in self.patterns.items():
            required = [p for p in patterns if not p.startswith("?")]
            unmatched = [p for p in required if not any(_matches(p, e) for e in assigned[term])]
            if unmatched and (self.strict or len(unmatched) == len(patterns)):
                what = (
                    f"no entry for term {term!r}"
                    if not self.strict
                    else f"pattern {unmatched[0]!r} of term {term!r} matches nothing"
                )
                stolen = _claimed_earlier(unmatched[0], self.patterns, term, names)
                if self.strict and stolen:
                    raise LossweaveError(
                        f"{what}: what it would match, {stolen[0]!r}, belongs to the earlier "
                        f"term {stolen[1]!r} already; narrow that term's patterns, or put "
                        f"{term!r} before it"
                    )
                near = get_close_matches(unmatched[0].strip("*"), names, n=1) if self.strict else ()
                hint = f"; did you mean {near[0]!r}?" if near else ""
                late = "" if hint else " (a leading '?' marks a loss that may come later)"
                if not self.strict:
                    late = (
                        "; name the terms in `terms`, e.g. dict(cls=['loss_cls*']), or take "
                        "terms='loss', where each of them is a term"
                    )
                raise LossweaveError(f"{what}; the detector's losses are: {seen}{hint or late}")

    def news(self, entries: Iterable[str]) -> list[str]:
        """Where the entries go that were not here before, in words for the log.

        In the first iteration that is the whole assignment, later what a loss that comes late
        is added to; mostly it is nothing.

        Example:
            >>> terms = TermMap({"cls": "loss_cls", "loc": ["loss_bbox", "?loss_l1"]})
            >>> terms.news(["loss_cls", "loss_bbox"])
            ['terms: cls = loss_cls; loc = loss_bbox']
            >>> terms.news(["loss_cls", "loss_bbox", "loss_l1"])
            ['terms: loc = loss_l1']
        """
        names = tuple(name for name in entries if name not in self._told)
        if not names:
            return []
        self._told.update(names)
        found = self._assign(names)
        parts = [
            f"{term} = {' + '.join(claimed)}"
            for term, claimed in zip(self.names, found.entries, strict=True)
            if claimed
        ]
        lines = ["terms: " + "; ".join(parts)] if parts else []
        if found.extra:
            lines.append(
                f"the losses {list(found.extra)} belong to no term and are added with weight 1; "
                "name them in `terms` to combine them"
            )
        return lines

    def _assign(self, names: tuple[str, ...]) -> Assignment:
        claimed: dict[str, str] = {}
        for term, patterns in self.patterns.items():
            for name in names:
                if name not in claimed and any(_matches(p, name) for p in patterns):
                    claimed[name] = term
        return Assignment(
            entries=tuple(tuple(n for n in names if claimed.get(n) == t) for t in self.names),
            extra=tuple(n for n in names if n not in claimed),
        )

    def __repr__(self) -> str:
        return f"TermMap({self.patterns})"


def _matches(pattern: str, entry: str) -> bool:
    pattern = pattern.removeprefix("?")
    if is_per_level(pattern):  # '[0]' is a level, no set of characters
        pattern = re.sub(r"\[(\d+)\]$", r"[[]\1]", pattern)
        return fnmatchcase(entry, pattern)
    return fnmatchcase(entry, pattern) or fnmatchcase(base_of_level(entry), pattern)


def _claimed_earlier(
    pattern: str, patterns: Mapping[str, tuple[str, ...]], term: str, names: tuple[str, ...]
) -> tuple[str, str] | None:
    """An entry that the pattern matches, and the other term that claims it."""
    for name in names:
        if _matches(pattern, name):
            for other, theirs in patterns.items():
                if other != term and any(_matches(p, name) for p in theirs):
                    return name, other
    return None


def _check_logged(names: Iterable[str]) -> None:
    """Refuse names that would be one in the log, where a nested 'a.b' is written a_b."""
    logged: dict[str, str] = {}
    for name in names:
        other = logged.setdefault(name.replace(".", "_"), name)
        if other != name:
            raise LossweaveError(
                f"terms: {other!r} and {name!r} have the same name in the log, "
                f"{name.replace('.', '_')!r}; rename one"
            )


def _checked(name: Any, value: Any) -> tuple[str, ...]:
    patterns = (value,) if isinstance(value, str) else value
    if not isinstance(name, str) or not all(p.isidentifier() for p in name.split(".")):
        raise LossweaveError(f"terms: {name!r} is not a term name (a Python identifier)")
    if "loss" in name:
        # MMEngine sums every logged key that contains 'loss'.
        raise LossweaveError(f"terms: the term name {name!r} must not contain 'loss'")
    if (
        not isinstance(patterns, Sequence)
        or not patterns
        or not all(isinstance(p, str) and p.removeprefix("?") for p in patterns)
    ):
        raise LossweaveError(
            f"terms: {name!r} takes a pattern or a list of patterns, e.g. ['loss_cls*'], "
            f"but is {value!r}"
        )
    return tuple(patterns)
