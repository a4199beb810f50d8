"""The ``LOSSWEAVE`` node of Detectron2's yaml configs, and what the tools do to a config."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY

from lossweave.errors import LossweaveError

__all__ = ["add_lossweave_config", "combination_options"]

_META = "CombinedLossDetector"


def add_lossweave_config(cfg: CfgNode) -> CfgNode:
    """Add the ``LOSSWEAVE`` node with its defaults to a Detectron2 config. In place.

    ===================== =======================================================================
    ``BASE_DETECTOR``     the meta-architecture whose losses are combined, e.g. 'RetinaNet'
    ``COMBINER.TYPE``     the combiner's name
    ``COMBINER.ARGS``     its arguments, in lower case as in Python
    ``TERMS``             'task' or 'head'
    ``TERM_PATTERNS``     a node from the names of own terms to patterns, in place of ``TERMS``
    ``EXTRA``             'add' or 'error', for losses that belong to no term
    ``ON_NONFINITE``      'raise' or 'skip'
    ===================== =======================================================================

    They mean what the arguments of :func:`lossweave.detectron2.combine_losses` do, and take effect
    with ``MODEL.META_ARCHITECTURE: CombinedLossDetector``.

    Example:
        >>> from detectron2.config import get_cfg
        >>> cfg = add_lossweave_config(get_cfg())
        >>> cfg.MODEL.META_ARCHITECTURE = "CombinedLossDetector"
        >>> cfg.LOSSWEAVE.BASE_DETECTOR = "RetinaNet"
        >>> cfg.LOSSWEAVE.COMBINER.TYPE = "UncertaintyWeighting"
        >>> cfg.LOSSWEAVE.COMBINER.ARGS.lr = 0.01
    """
    node = CfgNode()
    node.BASE_DETECTOR = ""
    node.COMBINER = CfgNode()
    node.COMBINER.TYPE = "Sum"
    node.COMBINER.ARGS = CfgNode(new_allowed=True)
    node.TERMS = "task"
    node.TERM_PATTERNS = CfgNode(new_allowed=True)  # yacs lets no key be a name or a node
    node.EXTRA = "add"
    node.ON_NONFINITE = "raise"
    cfg.LOSSWEAVE = node
    return cfg


def combination_options(cfg: CfgNode) -> tuple[str, dict[str, Any]]:
    """The base detector's name and the arguments of ``combine_losses`` that a config asks for.

    Raises:
        LossweaveError: there is no ``LOSSWEAVE`` node, or it names no known detector.
    """
    if "LOSSWEAVE" not in cfg:
        raise LossweaveError(
            "the config has no LOSSWEAVE node; call lossweave.detectron2.add_lossweave_config(cfg)"
        )
    node = cfg.LOSSWEAVE
    base = node.BASE_DETECTOR
    known = [name for name, _ in META_ARCH_REGISTRY if name != _META]
    if base not in known:
        near = get_close_matches(base, known, n=3)
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else "there are "
        hint = hint if near else hint + ", ".join(known)
        raise LossweaveError(f"LOSSWEAVE.BASE_DETECTOR={base!r} is no meta-architecture; {hint}")
    return base, {
        "combiner": dict(type=node.COMBINER.TYPE, **plain(node.COMBINER.ARGS)),
        "terms": plain(node.TERM_PATTERNS) or node.TERMS,
        "extra": node.EXTRA,
        "on_nonfinite": node.ON_NONFINITE,
    }


def plain(value: Any) -> Any:
    """A node as an ordinary dict, and so on inside."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value
