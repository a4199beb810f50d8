"""The ``LOSSWEAVE`` node of Detectron2's yaml configs: its keys, and what they ask for."""

from collections.abc import Mapping
from typing import Any

from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY

from lossweave.errors import LossweaveError
from lossweave.staged.plan import OWN_KEYS
from lossweave.utils.fields import near_names

__all__ = ["META", "add_lossweave_config", "combination_options", "new_node", "plain_node"]

#: The meta-architecture that combines another's losses.
META = "CombinedLossDetector"


def add_lossweave_config(cfg: CfgNode) -> CfgNode:
    """Add the ``LOSSWEAVE`` node with its defaults to a Detectron2 config. In place.

    ===================== ===================================================================
    ``BASE_DETECTOR``     the meta-architecture whose losses are combined, e.g. 'RetinaNet'
    ``COMBINER.TYPE``     the combiner's name
    ``COMBINER.ARGS``     its arguments, in lower case as in Python
    ``TERMS``             'task', 'head', 'loss', 'layer', 'level' or 'auto'
    ``TERM_PATTERNS``     a node from the names of own terms to patterns, in place of TERMS
    ``EXTRA``             'add' or 'error', for losses that belong to no term
    ``ON_NONFINITE``      'raise' or 'skip'
    ``PENALTY``           a list of penalties' arguments: ``[{kind: l2, weight: 1e-4}]``
    ``LOADED_STATE``      'take' or 'leave', for learned state of the checkpoint that training
                          starts from
    ``NUMBERED_DRAWS``    whether lossweave's tools number the draws (see
                          :func:`lossweave.detectron2.build_numbered_train_loader`)
    ``HELD_OUT``          names of data sets that are not trained on, for AutoLoss
    ``HELD_OUT_BATCHES``  how many training batches of them are measured
    ``RUNGS``             iterations at which lossweave's tools evaluate; they end at the last
                          (see :class:`lossweave.detectron2.rungs.RungHook`)
    ``SCHEDULE``          of a training in stages, with ``PROPOSALS`` and ``EVALUATION``: what
                          ``schedule``, ``proposals`` and ``evaluation`` are in a LazyConfig
    ===================== ===================================================================

    They mean what the arguments of :func:`lossweave.detectron2.combine_losses` do, and take
    effect with ``MODEL.META_ARCHITECTURE: CombinedLossDetector``.

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
    node.PENALTY = ()
    node.LOADED_STATE = "take"
    node.NUMBERED_DRAWS = False
    node.HELD_OUT = ()
    node.HELD_OUT_BATCHES = 1
    node.RUNGS = ()
    for key in OWN_KEYS:
        node[key.upper()] = CfgNode(new_allowed=True)
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
    known = [name for name, _ in META_ARCH_REGISTRY if name != META]
    if base not in known:
        raise LossweaveError(
            f"LOSSWEAVE.BASE_DETECTOR={base!r} is no meta-architecture; {near_names(base, known)}"
        )
    if "type" in node.COMBINER.ARGS:
        raise LossweaveError("LOSSWEAVE.COMBINER.ARGS.type: name it in COMBINER.TYPE")
    return base, {
        "combiner": {"type": node.COMBINER.TYPE, **plain_node(node.COMBINER.ARGS)},
        "terms": plain_node(node.TERM_PATTERNS) or node.TERMS,
        "extra": node.EXTRA,
        "on_nonfinite": node.ON_NONFINITE,
        "penalty": plain_node(node.PENALTY),
        "loaded_state": node.LOADED_STATE,
    }


def plain_node(value: Any) -> Any:
    """A node as an ordinary dict, and so on inside."""
    if isinstance(value, Mapping):
        return {str(key): plain_node(item) for key, item in value.items()}
    return [plain_node(item) for item in value] if isinstance(value, (list, tuple)) else value


def new_node(values: Mapping[str, Any]) -> CfgNode:
    """A node that takes any key, from a dict, and so on inside.

    Args:
        values: by key.

    Example:
        >>> new_node({"cls": {"terms": ["loss_cls"]}}).cls.terms
        ['loss_cls']
    """
    node = CfgNode(new_allowed=True)
    for key, value in values.items():
        node[key] = new_node(value) if isinstance(value, Mapping) else value
    return node
