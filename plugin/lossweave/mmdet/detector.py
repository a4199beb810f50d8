"""Any MMDetection detector, with its losses combined."""

import copyreg
from abc import ABCMeta
from contextlib import nullcontext
from difflib import get_close_matches
from functools import cache, partial
from typing import Any

import torch
from mmdet.models.dense_heads import RPNHead, YOLACTHead
from mmdet.models.dense_heads import SSDHead as StockSSDHead
from mmengine.logging import print_log
from mmengine.model import BaseModel
from torch import Tensor

from lossweave.backward import Boundary
from lossweave.combination import LossCombination, build_combination
from lossweave.combination.entries import LossEntries
from lossweave.combination.penalty import ParameterPenalty, penalized, read_penalties
from lossweave.combiners import GradientCombiner, build_combiner
from lossweave.errors import LossweaveError
from lossweave.mmdet.models.efficientnet_lite import refuse_rois_of_channels_last
from lossweave.mmdet.models.ssd_head import SSDHead
from lossweave.registry import MODELS
from lossweave.utils.torch_compat import uncompiled

__all__ = ["HOOK_LINE", "CombinedLossDetector", "CombinedLossMixin", "combined_class"]

#: What a config needs so that the hook runs.
HOOK_LINE = "default_hooks = dict(lossweave=dict(type='lossweave.CombinerHook'))"


class _CombinedMeta(ABCMeta):
    """Type of the made classes, so that they pickle by the base class that made them."""


class CombinedLossMixin:
    """What a combined detector adds to its base class: another ``parse_losses``.

    Every step of MMEngine, plain or in a DDP wrapper, asks the model's ``parse_losses`` for
    the scalar to optimise, so this one method is the whole seam.
    """

    loss_combination: LossCombination
    #: What is added to the detector's losses while training.
    loss_penalties: tuple[ParameterPenalty, ...] = ()

    @uncompiled
    def parse_losses(self, losses: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """The combined scalar, and what is logged: the stock entries with the combined ``loss``.

        Outside of training (no gradients) it is the base class's.
        """
        parse: Any = super().parse_losses  # type: ignore[misc]
        if not torch.is_grad_enabled():
            return parse(losses)
        if self.loss_penalties:
            model: Any = self
            losses = penalized(losses, self.loss_penalties, model)
        entries = LossEntries({n: value for n, value in losses.items() if "loss" in n})
        own = "" if parse.__func__ is BaseModel.parse_losses else parse.__func__.__qualname__
        # What the framework's method would reduce is reduced already; a detector's own sees it all.
        total, log_vars = parse(losses if own else {**losses, **entries})
        root = self.loss_combination(entries, total, self, own=own)
        if root is not total:
            log_vars["loss"] = root.detach()
        return root, log_vars


class CaughtMixin(CombinedLossMixin):
    """What it adds where gradients are combined above the parameters: the boundary is caught."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The base class's, watched for the boundary's tensors."""
        model: Any = self
        boundary = self.loss_combination.boundary
        with nullcontext() if boundary is None else boundary.caught(model):
            return super().forward(*args, **kwargs)  # type: ignore[misc]

    def extract_feat(self, *args: Any, **kwargs: Any) -> Any:
        """The base class's; while training the heads get aliases of what it returns."""
        boundary = self.loss_combination.boundary
        features = super().extract_feat(*args, **kwargs)  # type: ignore[misc]
        return features if boundary is None else boundary.features(features)


@cache
def combined_class(base: type, caught: bool = False) -> type:
    """The subclass of a detector class whose losses are combined; one per base class.

    Args:
        base: the detector class.
        caught: whether its forward is watched for the tensors of a boundary.

    Raises:
        LossweaveError: the class is no MMEngine model, or is combined already.
    """
    if not issubclass(base, BaseModel):
        raise LossweaveError(f"base_detector={base.__name__!r} is not a detector (a BaseModel)")
    if issubclass(base, CombinedLossMixin):
        raise LossweaveError(f"base_detector={base.__name__!r} is a combined detector already")
    if caught and not hasattr(base, "extract_feat"):
        raise LossweaveError(
            f"base_detector={base.__name__!r} has no extract_feat; use boundary='parameters'"
        )
    body = {"__module__": __name__, "__doc__": base.__doc__}
    mixin = CaughtMixin if caught else CombinedLossMixin
    return _CombinedMeta(f"Combined{base.__name__}", (mixin, base), body)


def _reduce_class(made: type) -> tuple[Any, ...]:
    mixin, base = made.__bases__
    return combined_class, ((base, True) if mixin is CaughtMixin else (base,))


copyreg.pickle(_CombinedMeta, _reduce_class)  # type: ignore[arg-type]


MODELS.register_module(module=ParameterPenalty)


@MODELS.register_module()
def CombinedLossDetector(
    base_detector: str | type,
    combiner: Any = "Sum",
    terms: Any = "task",
    extra: str = "add",
    on_nonfinite: str = "raise",
    penalty: Any = None,
    loaded_state: str = "take",
    **kwargs: Any,
) -> Any:
    """Build a detector whose training losses are combined by ``combiner``.

    The result IS the base detector (a subclass of its class, same attributes, same keys in
    its checkpoints), so whatever works on that works on it.

    Args:
        base_detector: the detector's registered name, e.g. 'RetinaNet', or its class.
        combiner: a combiner's name or ``dict(type=name, ...)``.
        terms: 'task', 'head', 'loss', 'layer', 'level' or a dict; see
            :func:`lossweave.combination.build_combination`.
        extra: 'add' or 'error', for losses that belong to no term.
        on_nonfinite: 'raise' or 'skip'; see :class:`lossweave.combination.LossCombination`.
        penalty: ``dict(type='lossweave.ParameterPenalty', ...)``, or a list of them: one more
            loss each; see :class:`lossweave.ParameterPenalty`.
        loaded_state: 'take' or 'leave'; see there.
        kwargs: the base detector's own arguments.

    Raises:
        LossweaveError: an unknown detector, combiner, argument or term option.

    Example:
        In a config::

            _base_ = 'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py'
            model = dict(
                type='lossweave.CombinedLossDetector',
                base_detector=_base_.model.type,
                combiner=dict(type='UncertaintyWeighting'))
            default_hooks = dict(lossweave=dict(type='lossweave.CombinerHook'))
    """
    base = _resolve(base_detector) if isinstance(base_detector, str) else base_detector
    where = f"to the config: {HOOK_LINE}"
    options: dict[str, Any] = dict(
        extra=extra, on_nonfinite=on_nonfinite, loaded_state=loaded_state, hook_line=where
    )
    combiner = build_combiner(combiner)  # what is wrong with it ends here
    penalties = read_penalties(penalty)
    catches = isinstance(combiner, GradientCombiner) and Boundary(combiner.boundary).needs_forward
    refuse_rois_of_channels_last(kwargs)
    made = combined_class(base, True) if catches else combined_class(base)
    detector = made(**_able_to_predict(kwargs))
    rpn = bool(getattr(detector, "with_rpn", False))
    rpn = rpn or isinstance(getattr(detector, "bbox_head", None), RPNHead)
    roi = bool(getattr(detector, "with_roi_head", False))
    combination = build_combination(combiner, terms, rpn=rpn, roi=roi, **options)
    if combination.terms.asks_levels and _lists_images(detector):
        raise LossweaveError(
            f"terms: the losses of {type(detector.bbox_head).__name__} are lists with an entry an "
            "image, not a level, so there are no levels to name"
        )
    if combination.boundary is not None:
        combination.boundary.refuse_unknown(detector)
    combination.log = partial(print_log, logger="current")
    detector.loss_combination = combination
    detector.loss_penalties = penalties
    for one in penalties:
        one.check(detector)
    return detector


def _lists_images(detector: Any) -> bool:
    """Whether the detector's lists of losses have an entry an image."""
    head = getattr(detector, "bbox_head", None)
    return isinstance(head, StockSSDHead) or (isinstance(head, YOLACTHead) and head.use_ohem)


def _able_to_predict(kwargs: dict[str, Any]) -> dict[str, Any]:
    """With MMDetection's SSD head, whose prediction fails in 3.3, replaced by the mended one."""
    head = kwargs.get("bbox_head")
    if isinstance(head, dict) and head.get("type") in ("SSDHead", "mmdet.SSDHead", StockSSDHead):
        return {**kwargs, "bbox_head": {**head, "type": SSDHead}}
    return kwargs


def _resolve(name: str) -> type:
    with MODELS.switch_scope_and_registry(None) as registry:
        found = registry.get(name)
        if found is None:
            known = {key: f"{key}" for key in registry.module_dict}
            near = get_close_matches(name, known, n=3)
            hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
            raise LossweaveError(
                f"base_detector={name!r} is not registered in scope {registry.scope!r}{hint}"
            )
    if not isinstance(found, type):
        raise LossweaveError(f"base_detector={name!r} is not a detector class")
    return found
