"""RoIAlign against mmcv's operator, and its gradient to the boxes against finite differences."""

import mmcv.ops
import pytest
import torch

from lossweave.errors import LossweaveError
from lossweave.mmdet.models.roi_align import BoxGradientRoIAlign, roi_align

OPTIONS = [(0, True), (0, False), (2, True), (2, False)]


def boxes(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Inside, across each edge, beyond the picture, and without an area."""
    return torch.tensor(
        [
            [0, 3.3, 2.3, 30.2, 25.8],
            [1, -9.7, -4.1, 12.2, 9.3],
            [0, 20.4, 15.2, 55.1, 49.8],
            [1, 70.0, 80.0, 90.0, 95.0],
            [1, 8.3, 8.1, 8.3, 8.1],
            [0, 1.1, 5.2, 40.9, 7.7],
        ],
        dtype=dtype,
    )


def features(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(2, 3, 10, 9, generator=torch.Generator().manual_seed(0), dtype=dtype)


@pytest.mark.parametrize(("ratio", "aligned"), OPTIONS)
def test_values_are_the_operators(ratio, aligned) -> None:
    own = roi_align(features(), boxes(), (3, 2), 0.25, ratio, aligned)
    theirs = mmcv.ops.roi_align(features(), boxes(), (3, 2), 0.25, ratio, "avg", aligned)
    torch.testing.assert_close(own, theirs, rtol=1e-5, atol=1e-5)
    assert own[0].abs().sum() > 0


@pytest.mark.parametrize(("ratio", "aligned"), OPTIONS)
def test_the_boxes_gradient_is_the_finite_difference(ratio, aligned) -> None:
    maps, rois = features(torch.double), boxes(torch.double)[[0, 1, 2, 5]].requires_grad_()

    def of(corners: torch.Tensor) -> torch.Tensor:
        return roi_align(maps, torch.cat([rois[:, :1], corners], 1), (3, 2), 0.25, ratio, aligned)

    corners = rois.detach()[:, 1:].requires_grad_()
    assert torch.autograd.gradcheck(of, (corners,), eps=1e-6, atol=1e-6)


def test_the_layer_has_the_operators_values_and_both_gradients() -> None:
    stock = mmcv.ops.RoIAlign((3, 2), 0.25, 0)
    layer = BoxGradientRoIAlign((3, 2), 0.25, 0)
    maps, rois = features().requires_grad_(), boxes()[:3].requires_grad_()
    values = layer(maps, rois)
    assert torch.equal(values, stock(maps, rois))
    down = torch.randn(values.shape, generator=torch.Generator().manual_seed(1))
    to_maps, to_rois = torch.autograd.grad((values * down).sum(), (maps, rois), retain_graph=True)
    assert torch.equal(to_maps, torch.autograd.grad((stock(maps, rois) * down).sum(), maps)[0])
    own = roi_align(maps, rois, (3, 2), 0.25, 0)
    assert torch.equal(to_rois, torch.autograd.grad((own * down).sum(), rois)[0])
    assert (to_rois[:, 1:].abs().sum(dim=1) > 0).all()


def test_without_boxes_that_want_a_gradient_it_is_the_operator() -> None:
    values = BoxGradientRoIAlign((3, 2), 0.25, 0)(features().requires_grad_(), boxes())
    assert "RoIAlign" in type(values.grad_fn).__name__


def test_channels_last_have_the_same_values() -> None:
    layer = BoxGradientRoIAlign((3, 2), 0.25, 0)
    found = layer(features().to(memory_format=torch.channels_last), boxes())
    assert torch.equal(found, layer(features(), boxes()))


def test_no_boxes_give_no_values() -> None:
    none = boxes()[:0].requires_grad_()
    values = BoxGradientRoIAlign((3, 2), 0.25, 0)(features(), none)
    assert values.shape == (0, 3, 3, 2)
    assert torch.equal(torch.autograd.grad(values.sum(), none)[0], torch.zeros(0, 5))


def test_another_pooling_is_refused_in_one_line() -> None:
    with pytest.raises(LossweaveError, match="pool_mode 'max' has no gradient for the boxes"):
        BoxGradientRoIAlign((3, 2), 0.25, 0, "max")
