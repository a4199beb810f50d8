"""A combination from configuration values."""

from collections.abc import Mapping
from typing import Any

from lossweave.combination.combination import LossCombination
from lossweave.combination.terms import TermMap
from lossweave.combination.tree import flat_node, term_tree
from lossweave.combination.views import VIEWS
from lossweave.errors import LossweaveError

__all__ = ["build_combination"]

_WORDS = ("task", "head", *VIEWS, "auto")


def build_combination(
    combiner: Any = "Sum",
    terms: Any = "task",
    rpn: bool | None = False,
    roi: bool | None = False,
    **options: Any,
) -> LossCombination:
    """Make a :class:`LossCombination` from configuration values.

    Args:
        combiner: a name, ``dict(type=name, ...)`` or a :class:`~lossweave.combiners.Combiner`.
        terms: 'task', 'head', a dict from term names to patterns, or nested: a term that is
            ``dict(combiner=..., terms={...})`` is the result of an inner combiner. Or a view
            that fits any detector, whose terms are known from its first training forward on:
            'loss' (each loss a term), 'layer' (decoder layers or cascade stages), 'level'
            (losses that come as lists, level by level), 'auto' ('task', else 'loss').
        rpn: whether the detector has a region proposal network (for 'head').
        roi: whether it has a RoI head (for 'head').
        options: ``extra``, ``on_nonfinite`` and ``hook_line`` of :class:`LossCombination`.

    Raises:
        LossweaveError: anything wrong with them, in one line.

    Example:
        >>> combination = build_combination("Max", {
        ...     "rpn": dict(combiner="Sum", terms={"cls": "loss_rpn_cls", "loc": "loss_rpn_bbox"}),
        ...     "roi": dict(combiner="Sum", terms={"cls": "loss_cls", "loc": "loss_bbox"})})
        >>> combination.names
        ('rpn.cls', 'rpn.loc', 'roi.cls', 'roi.loc')
    """
    if isinstance(terms, Mapping):
        return LossCombination(*term_tree(combiner, terms), **options)
    if terms not in _WORDS:
        raise LossweaveError(
            f"terms={terms!r} should be {', '.join(map(repr, _WORDS))} or a dict from names to "
            "patterns"
        )
    if terms == "task":
        term_map = TermMap.by_task()
    elif terms == "head" and rpn is not None and roi is not None:
        term_map = TermMap.by_head(rpn, roi)
    else:
        term_map = TermMap.by_view(terms)
    return LossCombination(flat_node(combiner, term_map), term_map, **options)
