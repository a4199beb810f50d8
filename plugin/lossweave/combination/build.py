"""A combination from configuration values."""

from collections.abc import Mapping
from typing import Any

from lossweave.combination.combination import LossCombination
from lossweave.combination.terms import TermMap
from lossweave.combination.tree import TermNode, term_tree
from lossweave.combiners import build_combiner
from lossweave.errors import LossweaveError

__all__ = ["build_combination"]


def build_combination(
    combiner: Any = "Sum",
    terms: Any = "task",
    rpn: bool = False,
    roi: bool = False,
    **options: Any,
) -> LossCombination:
    """Make a :class:`LossCombination` from configuration values.

    Args:
        combiner: a name, ``dict(type=name, ...)`` or a :class:`~lossweave.combiners.Combiner`.
        terms: 'task', 'head', a dict from term names to patterns, or nested: a term that is
            ``dict(combiner=..., terms={...})`` is the result of an inner combiner.
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
    if isinstance(terms, str):
        if terms not in ("task", "head"):
            raise LossweaveError(
                f"terms={terms!r} should be 'task', 'head' or a dict from names to patterns"
            )
        term_map = TermMap.by_task() if terms == "task" else TermMap.by_head(rpn, roi)
        leaves = {name: index for index, name in enumerate(term_map.names)}
        node = TermNode(build_combiner(combiner), leaves, len(leaves))
        return LossCombination(node, term_map, **options)
    if not isinstance(terms, Mapping):
        raise LossweaveError(
            f"terms={terms!r} should be 'task', 'head' or a dict from names to patterns"
        )
    return LossCombination(*term_tree(combiner, terms), **options)
