"""RoIAlign that passes the gradient to its boxes."""

from __future__ import annotations

from typing import Any

import torch
from mmcv.ops import RoIAlign as _RoIAlign
from torch import Tensor
from torch.nn.functional import grid_sample

from lossweave.errors import LossweaveError

__all__ = ["BoxGradientRoIAlign", "roi_align"]


def roi_align(
    features: Tensor,
    rois: Tensor,
    output_size: tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = 0,
    aligned: bool = True,
) -> Tensor:
    r"""The average of bilinear samples in each bin of each box, differentiable in the boxes.

    .. math:: v_{pq} = \frac{1}{g_y g_x} \sum_{i < g_y} \sum_{j < g_x}
        F\Big(y_0 + \big(p + \tfrac{i + 1/2}{g_y}\big) \tfrac{h}{P},\;
              x_0 + \big(q + \tfrac{j + 1/2}{g_x}\big) \tfrac{w}{Q}\Big)

    where F is the feature map between its cells (bilinear), (x_0, y_0) the box's corner, h and w
    its sides, P by Q the output and g the samples a bin in each direction.

    Args:
        features: (N, C, H, W).
        rois: (n, 5): the picture's index in the batch, then x1, y1, x2, y2 in pixels of the input.
        output_size: P and Q.
        spatial_scale: cells of the feature map a pixel of the input.
        sampling_ratio: samples a bin in each direction; 0 takes the side of the box in cells over
            the bins, rounded up.
        aligned: pixels have their value at their centre, as RoIAlign has had since Detectron2.

    Returns:
        (n, C, P, Q), the values of ``mmcv.ops.roi_align`` with average pooling.

    Source:
        He et al., *Mask R-CNN*, 2017; the gradient to the boxes: Dai et al., *Instance-aware
        Semantic Segmentation via Multi-task Network Cascades*, 2016 (RoI warping).

    Example:
        >>> ramp = torch.arange(8.0).expand(1, 1, 8, 8)
        >>> box = torch.tensor([[0.0, 1.0, 1.0, 5.0, 5.0]], requires_grad=True)
        >>> value = roi_align(ramp, box, (1, 1))
        >>> value.item()  # the ramp at the middle of the box, half a cell to the left
        2.5
        >>> torch.autograd.grad(value.sum(), box)[0][0, 1:].tolist()
        [0.5, 0.0, 0.5, 0.0]
    """
    if not len(rois):
        return features.new_zeros(0, features.shape[1], *output_size) * rois.sum()
    bins = rois.new_tensor([output_size[1], output_size[0]])
    corners = rois[:, 1:] * spatial_scale - (0.5 if aligned else 0.0)
    start, sides = corners[:, :2], corners[:, 2:] - corners[:, :2]
    if not aligned:
        sides = sides.clamp(min=1)
    if sampling_ratio > 0:
        samples = torch.full_like(sides, sampling_ratio, dtype=torch.long)
    else:
        samples = torch.ceil(sides.detach() / bins).clamp(min=0).long()
    kinds = torch.cat([rois[:, :1].detach().long(), samples], dim=1)
    found, order = [], []
    # Boxes of one picture with the same number of samples are taken in one call.
    for kind in kinds.unique(dim=0):
        chosen = (kinds == kind).all(dim=1).nonzero().squeeze(1)
        picture, across, down = kind.tolist()
        order.append(chosen)
        if across * down == 0:  # a box without an area
            found.append(features.new_zeros(len(chosen), features.shape[1], *output_size))
            continue
        x = _points(start[chosen, 0], sides[chosen, 0], output_size[1] * across)
        y = _points(start[chosen, 1], sides[chosen, 1], output_size[0] * down)
        sampled = _sampled(features[picture], x, y)
        parts = sampled.unflatten(3, (output_size[1], across)).unflatten(2, (output_size[0], down))
        found.append(parts.mean(dim=(3, 5)))
    return torch.cat(found)[torch.cat(order).argsort()]


class BoxGradientRoIAlign(_RoIAlign):
    """The stock RoIAlign, whose boxes receive their gradient too.

    Values and the features' gradient are the stock operator's, which knows no gradient for its
    boxes; theirs is that of :func:`roi_align`, taken in the backward pass.

    Args:
        output_size, spatial_scale, sampling_ratio, pool_mode, aligned, use_torchvision: as
            ``mmcv.ops.RoIAlign`` has them.

    Raises:
        LossweaveError: another pooling than the average.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.pool_mode != "avg":
            raise LossweaveError(
                f"pool_mode {self.pool_mode!r} has no gradient for the boxes here; use 'avg'"
            )

    def forward(self, input: Tensor, rois: Tensor) -> Tensor:
        # mmcv's CPU operator takes channels last for channels first.
        pooled = super().forward(input.contiguous(), rois.detach())
        if not (torch.is_grad_enabled() and rois.requires_grad):
            return pooled
        own = (self.output_size, self.spatial_scale, self.sampling_ratio, self.aligned)
        return _WithBoxGradient.apply(pooled, input.detach(), rois, own)


class _WithBoxGradient(torch.autograd.Function):
    """Hands values on, and gives the boxes the gradient that made them."""

    @staticmethod
    def forward(ctx: Any, pooled: Tensor, features: Tensor, rois: Tensor, own: Any) -> Tensor:
        ctx.save_for_backward(features, rois)
        ctx.own = own
        return pooled.view_as(pooled)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, Tensor, None]:
        features, rois = ctx.saved_tensors
        with torch.enable_grad():
            boxes = rois.detach().requires_grad_()
            values = roi_align(features, boxes, *ctx.own)
            (found,) = torch.autograd.grad(values, boxes, gradient)
        return gradient, None, found, None


def _points(start: Tensor, side: Tensor, count: int) -> Tensor:
    """Where ``count`` equal parts of each side have their middles: (n, count)."""
    share = (torch.arange(count, device=start.device, dtype=start.dtype) + 0.5) / count
    return start[:, None] + side[:, None] * share


def _sampled(features: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """One picture's features (C, H, W) at every y (n, a) and x (n, b) of a box: (n, C, a, b)."""
    height, width = features.shape[1:]
    inside = ((y >= -1) & (y <= height))[:, :, None] & ((x >= -1) & (x <= width))[:, None, :]
    across = x.clamp(0, width - 1) * (2 / max(width - 1, 1)) - 1
    down = y.clamp(0, height - 1) * (2 / max(height - 1, 1)) - 1
    shape = (*down.shape, across.shape[1])
    grid = torch.stack([across[:, None, :].expand(shape), down[:, :, None].expand(shape)], dim=-1)
    values = grid_sample(
        features[None], grid.reshape(1, -1, shape[2], 2), padding_mode="border", align_corners=True
    )
    return values[0].unflatten(1, shape[:2]).transpose(0, 1) * inside[:, None]
