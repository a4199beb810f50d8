"""What detectors call their losses: the one table behind the terms by task and by head.

A name is read as whole words. ``loss_reg`` and ``loss_reg_refine`` are box losses,
``loss_region_distill`` and ``loss_regularization`` are not, though they begin alike.
"""

from collections.abc import Mapping

__all__ = ["HEAD_TERMS", "RPN_TERMS", "TASK_TERMS"]

#: What may follow a word that means something else as the beginning of a longer name: the
#: number of a stage or layer, or the part of a detector that refines or denoises.
_NUMBERED = ("", "_[0-9]*", "_stage[0-9]*", "_init", "_refine", "_rf", "_enc", "_dn", "_dn_[0-9]*")
#: Words that keep their meaning, whatever follows after an underscore.
_ANY = ("", "_*")

_CLS = (("cls", _ANY), ("class", _NUMBERED), ("classifier", _NUMBERED), ("fcos_cls", _NUMBERED),
        ("center_heatmap", _NUMBERED))  # fmt: skip
_LOC = (
    *((word, _ANY) for word in ("bbox", "box_reg", "box")),
    *((word, _NUMBERED) for word in ("iou", "giou", "loc", "reg", "dfl", "xy", "wh", "offset")),
    *((word, _NUMBERED) for word in ("pts", "fcos_loc")),
)


def _patterns(before: tuple[str, ...], words: tuple[tuple[str, tuple[str, ...]], ...],
              *others: str) -> tuple[str, ...]:  # fmt: skip
    """Patterns for names made of any prefix, one of ``before``, a word and what may follow it."""
    made = (f"*{b}{word}{end}" for word, ends in words for b in before for end in ends)
    return (*made, *others)


#: By head, for two-stage detectors: the two terms of a region proposal network, then the RoI
#: head's. ``rpn_loss_*`` is how MMDetection renames the losses of a dense head that proposes
#: regions; names without ``loss_`` are CornerNet's and torchvision's.
HEAD_TERMS: Mapping[str, tuple[str, ...]] = {
    "rpn_cls": _patterns(("loss_rpn_", "rpn_loss_"), _CLS, "loss_objectness"),
    "rpn_loc": _patterns(("loss_rpn_", "rpn_loss_"), _LOC),
    "roi_cls": _patterns(("loss_",), _CLS, "classification", "det_loss"),
    "roi_loc": _patterns(("loss_",), _LOC, "bbox_regression", "off_loss"),
}

#: The two terms of a region proposal network.
RPN_TERMS: Mapping[str, tuple[str, ...]] = {
    term: patterns for term, patterns in HEAD_TERMS.items() if term.startswith("rpn_")
}

#: By task: classification against localisation, whatever head they come from.
TASK_TERMS: Mapping[str, tuple[str, ...]] = {
    task: (*HEAD_TERMS[f"rpn_{task}"], *HEAD_TERMS[f"roi_{task}"]) for task in ("cls", "loc")
}
