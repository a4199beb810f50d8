"""Proposals with a graph: stock values, and the gradient that finite differences find."""

import pytest
import torch
from helpers.mmdet_support import image_batch
from mmdet.registry import MODELS
from mmengine.registry import init_default_scope

from lossweave.errors import LossweaveError

BOTH = {
    "model.rpn_head.type": "lossweave.NonApproximateRPNHead",
    "model.roi_head.bbox_roi_extractor.type": "lossweave.BoxGradientRoIExtractor",
}


@pytest.fixture
def detector(make_config):
    """Builds the small Faster R-CNN with changes, the same weights in each."""

    def build(**changes):
        init_default_scope("mmdet")
        cfg = make_config("faster_rcnn", None, "model")
        cfg.merge_from_dict(changes)
        torch.manual_seed(0)
        model = MODELS.build(cfg.model).train()
        torch.manual_seed(1)
        for weight in model.parameters():
            torch.nn.init.normal_(weight, std=0.05)
        return model

    return build


def losses_of(model, batch=None):
    """The losses of two images, with the same random draws each time."""
    data = model.data_preprocessor(batch or image_batch(0), True)
    torch.manual_seed(2)
    return model.loss(data["inputs"], data["data_samples"])


def total(losses, *prefixes):
    parts = [v for k, v in losses.items() if k.startswith(prefixes)]
    return sum(sum(part) if isinstance(part, list) else part for part in parts)


def to_proposals(model, losses):
    """The second stage's gradient at the RPN's regression of boxes."""
    (found,) = torch.autograd.grad(
        total(losses, "loss_cls", "loss_bbox"),
        [model.rpn_head.rpn_reg.weight],
        retain_graph=True,
        allow_unused=True,
    )
    return found


def test_losses_are_stock_and_only_the_second_stages_gradient_is_new(detector) -> None:
    stock, other = detector(), detector(**BOTH)
    before, after = losses_of(stock), losses_of(other)
    assert set(before) == set(after)
    for name in before:
        assert torch.equal(total(before, name), total(after, name)), name
    assert to_proposals(stock, before) is None
    assert to_proposals(other, after).abs().sum() > 0
    own = [  # the RPN's own losses send what they sent
        torch.autograd.grad(total(found, "loss_rpn"), model.rpn_head.rpn_reg.weight)[0]
        for model, found in ((stock, before), (other, after))
    ]
    assert torch.equal(*own)


def test_each_of_the_two_ways_is_part_of_the_gradient(detector) -> None:
    """The targets alone, without the extractor's part, are another gradient."""
    only_targets = detector(**{"model.rpn_head.type": BOTH["model.rpn_head.type"]})
    both = detector(**BOTH)
    found = [to_proposals(model, losses_of(model)) for model in (only_targets, both)]
    assert found[0].abs().sum() > 0
    assert not torch.allclose(*found)


def test_the_gradient_is_the_finite_difference(detector) -> None:
    model = detector(**BOTH).double()
    x = [m.double() for m in _features(model)]
    proposals, samples = _proposals(model)

    def second_stage(move: torch.Tensor) -> torch.Tensor:
        given = []
        for boxes, shift in zip(proposals, move, strict=True):
            own = type(samples[0].gt_instances)(bboxes=boxes + shift)
            own.labels = torch.zeros(len(boxes), dtype=torch.long)
            given.append(own)
        torch.manual_seed(3)
        return total(model.roi_head.loss(x, given, samples), "loss")

    at = torch.zeros(2, *proposals[0].shape, dtype=torch.double, requires_grad=True)
    gradient = torch.autograd.grad(second_stage(at), at)[0]
    generator = torch.Generator().manual_seed(4)
    for _ in range(3):
        way = torch.randn(at.shape, generator=generator, dtype=torch.double)
        step = 2e-3  # MMDetection's coder of boxes computes in single precision
        with torch.no_grad():
            difference = (second_stage(step * way) - second_stage(-step * way)) / (2 * step)
        torch.testing.assert_close((gradient * way).sum(), difference, rtol=1e-2, atol=1e-4)
    assert gradient.abs().sum() > 0


def _features(model):
    data = model.data_preprocessor(image_batch(0), True)
    with torch.no_grad():
        return model.extract_feat(data["inputs"].double())


def _proposals(model):
    """Boxes near the objects, so that some are positive; and the objects."""
    samples = model.data_preprocessor(image_batch(0), True)["data_samples"]
    generator = torch.Generator().manual_seed(5)
    found = []
    for sample in samples:
        sample.gt_instances.bboxes = sample.gt_instances.bboxes.double()
        around = sample.gt_instances.bboxes.repeat(8, 1)
        found.append(around + 4 * torch.randn(around.shape, generator=generator).double())
    return found, samples


def test_a_picture_without_objects_trains(detector) -> None:
    model = detector(**BOTH)
    losses = losses_of(model, image_batch(0, empty=True))
    total(losses, "loss").backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_a_layer_without_a_box_gradient_is_refused_in_one_line(detector) -> None:
    with pytest.raises(LossweaveError, match=r"roi_layer\.type 'RoIPool' has no gradient"):
        detector(**BOTH, **{"model.roi_head.bbox_roi_extractor.roi_layer.type": "RoIPool"})


@pytest.mark.parametrize("combiner", ["Sum", "PCGrad"])
def test_it_trains_under_combiners(combiner, make_config, train) -> None:
    cfg = make_config("faster_rcnn", combiner, combiner, iterations=2)
    cfg.merge_from_dict(BOTH)
    runner = train(cfg)
    assert all(p.isfinite().all() for p in runner.model.parameters())
