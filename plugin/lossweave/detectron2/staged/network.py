"""The network of one stage: Detectron2's own architectures with parts absent or frozen."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from detectron2.modeling.meta_arch import GeneralizedRCNN, ProposalNetwork
from detectron2.modeling.postprocessing import detector_postprocess
from torch import nn

from lossweave.errors import LossweaveError
from lossweave.staged.freezing import freeze, hold_eval, modules_at
from lossweave.staged.losses import active_losses

__all__ = [
    "MODULES",
    "StageProposalNetwork",
    "StageRCNN",
    "check_detector",
    "propose",
    "rpn_settings",
    "stage_network",
]

#: Detectron2's names of the parts; its feature pyramid is inside the backbone.
MODULES = {"rpn_head": "proposal_generator", "roi_head": "roi_heads"}
_OURS = ("forward", "inference", "preprocess_image")


class _Stage:
    """Frozen modules stay frozen whatever ``train()`` is called; inactive losses go."""

    training: bool
    _frozen: tuple[str, ...] = ()
    _active_terms: Sequence[str] | None = None

    def hold(self, frozen: Sequence[str], active_terms: Sequence[str] | None) -> None:
        """Freeze modules, by their paths, and keep the losses of some terms alone."""
        self._frozen = tuple(frozen)
        self._active_terms = active_terms
        freeze(self.frozen_modules.values())

    @property
    def frozen_modules(self) -> dict[str, nn.Module]:
        """The frozen modules by path."""
        return modules_at(self, self._frozen)  # type: ignore[arg-type]

    def train(self, mode: bool = True) -> Any:
        """Training mode, except for what is frozen."""
        super().train(mode)  # type: ignore[misc]
        if mode:
            hold_eval(self.frozen_modules.values())
        return self

    def forward(self, batched_inputs: Any) -> Any:
        """The base class's; while training, without the losses of inactive terms."""
        found = super().forward(batched_inputs)  # type: ignore[misc]
        return active_losses(found, self._active_terms) if self.training else found


class StageProposalNetwork(_Stage, ProposalNetwork):
    """An RPN alone, in one stage; keys of its state dict are those of the whole detector."""


class StageRCNN(_Stage, GeneralizedRCNN):
    """A Fast R-CNN (``proposal_generator=None``) or a whole detector, in one stage."""


def check_detector(model: nn.Module) -> None:
    """Check that a detector is made of the parts that stages are about.

    Raises:
        LossweaveError: it is no GeneralizedRCNN, changes what that does, or lacks a part.
    """
    name = type(model).__name__
    if not isinstance(model, GeneralizedRCNN) or any(
        getattr(type(model), step) is not getattr(GeneralizedRCNN, step) for step in _OURS
    ):
        raise LossweaveError(f"{name} is no GeneralizedRCNN, so it has no such stages")
    for part in ("proposal_generator", "roi_heads"):
        if getattr(model, part) is None:
            raise LossweaveError(f"training in stages needs a two-stage detector: no {part}")


def stage_network(
    model: Any,
    network: Sequence[str],
    frozen: Sequence[str] = (),
    active_terms: Sequence[str] | None = None,
) -> nn.Module:
    """The network of a stage, of the modules of a whole detector.

    Args:
        model: a GeneralizedRCNN.
        network: parts that it is made of.
        frozen: paths of modules that nothing may change.
        active_terms: losses that are kept; None means all.

    Raises:
        LossweaveError: the detector has no such parts, or a frozen path is no module.
    """
    check_detector(model)
    given: dict[str, Any] = {
        "backbone": model.backbone,
        "proposal_generator": model.proposal_generator if "rpn_head" in network else None,
        "pixel_mean": model.pixel_mean.flatten().tolist(),
        "pixel_std": model.pixel_std.flatten().tolist(),
    }
    made: Any
    if "roi_head" in network:
        given.update(input_format=model.input_format, vis_period=model.vis_period)
        made = StageRCNN(roi_heads=model.roi_heads, **given)
    else:
        made = StageProposalNetwork(**given)
    made.hold(frozen, active_terms)
    return made


def rpn_settings(generator: Any) -> dict[str, Any]:
    """An RPN's settings in tests, by the names of a config's ``proposals``."""
    return {
        "nms_pre": int(generator.pre_nms_topk[False]),
        "nms": {"type": "nms", "iou_threshold": float(generator.nms_thresh)},
        "max_per_img": int(generator.post_nms_topk[False]),
        "min_bbox_size": float(generator.min_box_size),
    }


def propose(
    model: Any, batch: list[dict[str, Any]], settings: Sequence[Mapping[str, Any]]
) -> list[list[Any]]:
    """Proposals of a batch under several settings, from one pass through the backbone.

    Args:
        model: a network with an RPN, in evaluation mode.
        batch: as a data loader gives it.
        settings: of the RPN; ``nms_pre=-1`` is no cap.

    Returns:
        Per setting, the proposals of every image, in pixels of the original image, best first.
    """
    with torch.no_grad():
        images = GeneralizedRCNN.preprocess_image(model, batch)
        features = model.backbone(images.tensor)
        made = []
        for setting in settings:
            generator = _with_settings(model.proposal_generator, setting)
            proposals, _ = generator(images, features, None)
            made.append(
                [
                    detector_postprocess(found, entry["height"], entry["width"])
                    for found, entry in zip(proposals, batch, strict=True)
                ]
            )
    return made


def _with_settings(generator: Any, settings: Mapping[str, Any]) -> Any:
    """The same RPN, the same weights, under other settings."""
    made = copy.copy(generator)
    before, after = settings["nms_pre"], settings["max_per_img"]
    no_cap = 2**31
    made.pre_nms_topk = dict.fromkeys((True, False), before if before > 0 else no_cap)
    made.post_nms_topk = dict.fromkeys((True, False), after if after > 0 else no_cap)
    made.nms_thresh = settings["nms"]["iou_threshold"]
    made.min_box_size = float(settings["min_bbox_size"])
    return made
