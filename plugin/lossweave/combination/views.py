"""Terms that follow from the losses a detector returns: each loss, each layer, each level.

What ``terms='task'`` and ``'head'`` mean is known when a model is built. These three views fit
any detector, also one that nobody has seen before, because they ask it: its first training
forward names the losses, before any update, and the terms stay what they are then.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from lossweave.errors import LossweaveError

__all__ = ["VIEWS", "base_of_level", "is_per_level", "split_levels"]

_LEVEL = re.compile(r"(.+)\[(\d+)\]")
#: How losses name the layer or stage they belong to: MMDetection's decoder layers and cascade
#: stages, then Detectron2's stages, then a number at the end, as DETR's own code has it.
_LAYERS = (
    (re.compile(r"^d(\d+)\."), "d"),
    (re.compile(r"^s(\d+)\."), "s"),
    (re.compile(r"^stage_?(\d+)[._]"), "s"),
    (re.compile(r"_stage(\d+)$"), "s"),
    (re.compile(r"^(\d+)_aux_"), "d"),
    (re.compile(r"_(\d+)$"), "d"),
)


def by_loss(names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Each loss is a term, named like it without the word 'loss', which MMEngine's log sums.

    Example:
        >>> by_loss(["loss_cls", "s0.loss_bbox", "positive_bag_loss"])
        {'cls': ('loss_cls',), 's0_bbox': ('s0.loss_bbox',), 'positive_bag': ('positive_bag_loss',)}
    """
    terms: dict[str, tuple[str, ...]] = {}
    for name in names:
        words = re.sub(r"[^0-9a-zA-Z]+|loss", "_", name).strip("_")
        plain = re.sub("_+", "_", words) or "total"
        plain = f"l{plain}" if plain[0].isdigit() else plain
        term, copies = plain, 1
        while term in terms:
            copies += 1
            term = f"{plain}_{copies}"
        terms[term] = (name,)
    return terms


def by_layer(names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Each decoder layer ('d0', 'd1', ...) or stage ('s0', ...) is a term; the losses without a
    number are 'last' beside decoder layers, whose last one they are, else 'rpn' or 'rest'.

    Raises:
        LossweaveError: no loss has the number of a layer.

    Example:
        >>> by_layer(["loss_cls", "loss_bbox", "d0.loss_cls", "d0.loss_bbox"])
        {'d0': ('d0.loss_cls', 'd0.loss_bbox'), 'last': ('loss_cls', 'loss_bbox')}
    """
    numbered = {name: found for name in names if (found := _layer(name)) is not None}
    if not numbered:
        raise LossweaveError(
            "terms='layer' fits nothing: no loss has the number of a layer or stage in its name "
            f"('d0.loss_cls', 's0.loss_cls', 'loss_cls_stage0'); the detector's losses are: "
            f"{_listed(names)}; terms='loss' makes each of them a term"
        )
    rest = "last" if any(kind == "d" for kind, _ in numbered.values()) else "rest"
    groups: dict[tuple[int, str, int], list[str]] = {}
    for name in names:
        if name in numbered:
            kind, number = numbered[name]
            key = (2, kind, number)
        elif "rpn" in name:
            key = (0, "rpn", -1)
        elif re.search(r"(^|[._])enc_loss", name):
            key = (1, "enc", -1)
        else:
            key = (3, rest, -1)
        groups.setdefault(key, []).append(name)
    return {
        word if number < 0 else f"{word}{number}": tuple(groups[_, word, number])
        for _, word, number in sorted(groups)
    }


def by_level(names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Each level ('level0', 'level1', ...) of the losses that come as lists is a term.

    Raises:
        LossweaveError: no loss is a list.

    Example:
        >>> by_level(["loss_cls[0]", "loss_cls[1]", "loss_bbox[0]", "loss_bbox[1]", "loss_mask"])
        {'level0': ('loss_cls[0]', 'loss_bbox[0]'), 'level1': ('loss_cls[1]', 'loss_bbox[1]')}
    """
    levels: dict[int, list[str]] = {}
    for name in names:
        if found := _LEVEL.fullmatch(name):
            levels.setdefault(int(found[2]), []).append(name)
    if not levels:
        raise LossweaveError(
            "terms='level' fits nothing: no loss comes as a list, one entry a level; the "
            f"detector's losses are: {_listed(names)}; terms='loss' makes each of them a term"
        )
    return {f"level{level}": tuple(levels[level]) for level in sorted(levels)}


#: From the word in ``terms`` to the patterns that it means for the losses that there are.
VIEWS: Mapping[str, Callable[[Sequence[str]], dict[str, tuple[str, ...]]]] = {
    "loss": by_loss,
    "layer": by_layer,
    "level": by_level,
}


def _layer(name: str) -> tuple[str, int] | None:
    for pattern, kind in _LAYERS:
        if found := pattern.search(name):
            return kind, int(found[1])
    return None


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"


def is_per_level(pattern: str) -> bool:
    """Whether a pattern names one level of a list, as ``'loss_cls[0]'`` does."""
    return _LEVEL.fullmatch(pattern) is not None


def base_of_level(name: str) -> str:
    """The name of the list that an entry is a level of, or the name itself.

    Example:
        >>> base_of_level("loss_cls[3]"), base_of_level("loss_cls")
        ('loss_cls', 'loss_cls')
    """
    found = _LEVEL.fullmatch(name)
    return found[1] if found else name


def split_levels(
    entries: Mapping[str, Any], raw: Mapping[str, Any], asked: Callable[[str], bool]
) -> dict[str, Any]:
    """The entries with those that are lists, and are asked for by level, one by one.

    Args:
        entries: the losses by name, each reduced to a scalar.
        raw: the same before that.
        asked: whether a name is asked for by level.

    Example:
        >>> import torch
        >>> raw = {"loss_cls": [torch.ones(2), torch.zeros(1)], "loss_bbox": torch.ones(1)}
        >>> list(split_levels({"loss_cls": 1, "loss_bbox": 1}, raw, lambda name: True))
        ['loss_cls[0]', 'loss_cls[1]', 'loss_bbox']
    """
    split: dict[str, Any] = {}
    for name, entry in entries.items():
        levels = raw.get(name)
        if isinstance(levels, (list, tuple)) and asked(name):
            split.update({f"{name}[{k}]": level.mean() for k, level in enumerate(levels)})
        else:
            split[name] = entry
    return split
