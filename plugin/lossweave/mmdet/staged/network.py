"""The network of one stage: a two-stage detector of which some parts are absent or frozen."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from mmdet.models.detectors import TwoStageDetector
from torch import Tensor

from lossweave.errors import LossweaveError
from lossweave.registry import MODELS
from lossweave.staged.freezing import freeze, hold_eval, modules_at
from lossweave.staged.losses import active_losses

__all__ = ["StageDetector", "propose"]


@MODELS.register_module()
class StageDetector(TwoStageDetector):
    """A two-stage detector in one stage of a staged training.

    Without ``roi_head`` it is an RPN, without ``rpn_head`` a Fast R-CNN that needs proposals
    with its images, with both an ordinary two-stage detector. Keys of its state dict are those
    of the whole detector in every case (the framework's own ``RPN`` calls its head
    ``bbox_head``), and frozen modules stay frozen whatever ``train()`` is called.

    Args:
        frozen: paths of modules that nothing may change.
        active_terms: losses that are kept, of ``rpn_cls, rpn_loc, roi_cls, roi_loc``; None
            means all.
        kwargs: those of ``TwoStageDetector``; either head may be None.

    Raises:
        LossweaveError: a frozen path is no module, or a Fast R-CNN got no proposals.
    """

    def __init__(
        self,
        *args: Any,
        frozen: Sequence[str] = (),
        active_terms: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.frozen = tuple(frozen)
        self._active_terms = active_terms
        freeze(self.frozen_modules.values())
        below = [p for part in ("backbone", "neck") if hasattr(self, part) for p in [part]]
        self._features_frozen = all(part in self.frozen for part in below)

    @property
    def frozen_modules(self) -> dict[str, torch.nn.Module]:
        """The frozen modules by path."""
        return modules_at(self, self.frozen)

    def train(self, mode: bool = True) -> StageDetector:
        """Training mode, except for what is frozen."""
        super().train(mode)
        if mode:
            hold_eval(self.frozen_modules.values())
        return self

    def extract_feat(self, batch_inputs: Tensor) -> tuple[Tensor, ...]:
        """The base class's; without a graph where all of it is frozen."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self._features_frozen):
            return super().extract_feat(batch_inputs)

    def loss(self, batch_inputs: Tensor, batch_data_samples: list[Any]) -> dict[str, Any]:
        """The losses of the heads that there are, by the names they have in joint training."""
        if self.with_roi_head:
            if not self.with_rpn:
                _need_proposals(batch_data_samples)
            losses = super().loss(batch_inputs, batch_data_samples)
        else:
            losses = self._rpn_loss(batch_inputs, batch_data_samples)
        return active_losses(losses, self._active_terms)

    def predict(
        self, batch_inputs: Tensor, batch_data_samples: list[Any], rescale: bool = True
    ) -> list[Any]:
        """Detections; an RPN's are its proposals."""
        if self.with_roi_head:
            if not self.with_rpn:
                _need_proposals(batch_data_samples)
            return super().predict(batch_inputs, batch_data_samples, rescale=rescale)
        features = self.extract_feat(batch_inputs)
        results = self.rpn_head.predict(features, batch_data_samples, rescale=rescale)
        return self.add_pred_to_datasample(batch_data_samples, results)

    def _rpn_loss(self, inputs: Tensor, samples: list[Any]) -> dict[str, Any]:
        # For an RPN all objects are of one class.
        samples = copy.deepcopy(samples)
        for sample in samples:
            labels = sample.gt_instances.labels
            sample.gt_instances.labels = torch.zeros_like(labels)
        losses = self.rpn_head.loss(self.extract_feat(inputs), samples)
        return {
            f"rpn_{name}" if "loss" in name and "rpn" not in name else name: value
            for name, value in losses.items()
        }


def _need_proposals(samples: list[Any]) -> None:
    if any(sample.get("proposals", None) is None for sample in samples):
        raise LossweaveError(
            "a Fast R-CNN without an RPN needs proposals; add lossweave.LoadFixedProposals to "
            "the pipeline, before PackDetInputs"
        )


def propose(
    detector: Any, data: dict[str, Any], settings: Sequence[Any]
) -> tuple[list[Any], list[list[Any]]]:
    """Proposals of a batch under several settings, from one pass through the network.

    Args:
        detector: a two-stage detector with an RPN, in evaluation mode.
        data: a batch as a data loader gives it.
        settings: test configs of the RPN.

    Returns:
        The batch's data samples, and per setting the proposals of every image, in pixels of
        the original image, best first.
    """
    with torch.no_grad():
        data = detector.data_preprocessor(data, False)
        samples = data["data_samples"]
        outs = detector.rpn_head(detector.extract_feat(data["inputs"]))
        metas = [sample.metainfo for sample in samples]
        found = [
            detector.rpn_head.predict_by_feat(*outs, batch_img_metas=metas, cfg=cfg, rescale=True)
            for cfg in settings
        ]
    return samples, found
