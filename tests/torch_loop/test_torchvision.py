"""torchvision's detectors, tiny and untrained, by their own loss dictionaries."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lossweave.torch_loop import Weave

torchvision = pytest.importorskip("torchvision", reason="what this is about")

from torchvision.models.detection import FasterRCNN, RetinaNet  # noqa: E402
from torchvision.models.detection.anchor_utils import (  # noqa: E402
    AnchorGenerator,
    DefaultBoxGenerator,
)
from torchvision.models.detection.ssd import SSD, SSDHead  # noqa: E402
from torchvision.ops import MultiScaleRoIAlign  # noqa: E402

SIZE = 64
LOSSES = {
    "faster_rcnn": {
        "rpn_cls": "loss_objectness", "rpn_loc": "loss_rpn_box_reg",
        "roi_cls": "loss_classifier", "roi_loc": "loss_box_reg",
    },
    "retinanet": {"cls": "classification", "loc": "bbox_regression"},
    "ssd": {"cls": "classification", "loc": "bbox_regression"},
}  # fmt: skip


class Backbone(nn.Module):
    """Two levels of eight channels."""

    out_channels = 8

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, stride=8, padding=1), nn.ReLU())
        self.down = nn.Sequential(nn.Conv2d(8, 8, 3, stride=2, padding=1), nn.ReLU())

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        fine = self.stem(images)
        return {"0": fine, "1": self.down(fine)}


def build(name: str) -> nn.Module:
    """A detector whose weights follow from the seed."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"min_size": SIZE, "max_size": SIZE}
    anchors = AnchorGenerator(((16,), (32,)), ((0.5, 1.0, 2.0),) * 2)
    if name == "faster_rcnn":
        pool = MultiScaleRoIAlign(["0", "1"], output_size=3, sampling_ratio=2)
        return FasterRCNN(
            Backbone(), rpn_anchor_generator=anchors, box_roi_pool=pool, **sizes,
            box_head=nn.Sequential(nn.Flatten(), nn.Linear(8 * 9, 16), nn.ReLU()),
            box_predictor=_Predictor(16, 4),
        ).train()  # fmt: skip
    if name == "retinanet":
        return RetinaNet(Backbone(), 4, anchor_generator=anchors, **sizes).train()
    boxes = DefaultBoxGenerator([[2], [2]], steps=[8, 16])
    backbone = Backbone()
    head = SSDHead([8, 8], boxes.num_anchors_per_location(), 4)
    return SSD(backbone, boxes, (SIZE, SIZE), 4, head=head).train()


class _Predictor(nn.Module):
    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.cls, self.box = nn.Linear(channels, classes), nn.Linear(channels, 4 * classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.cls(x), self.box(x)


def losses_of(model: nn.Module, seed: int = 0) -> dict[str, Tensor]:
    """What the detector returns for two images that follow from the seed."""
    generator = torch.Generator().manual_seed(seed)
    images = [torch.rand(3, SIZE, SIZE, generator=generator) for _ in range(2)]
    corners = torch.rand(2, 2, 2, generator=generator) * 24
    targets = [
        {"boxes": torch.cat([corner, corner + 28], dim=1), "labels": torch.tensor([1, 3])}
        for corner in corners
    ]
    torch.manual_seed(seed)  # the samplers draw
    return model(images, targets)


def _gradients(model: nn.Module) -> dict[str, Tensor]:
    return {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", LOSSES)
def test_the_sum_is_what_a_stock_loop_trains(name: str) -> None:
    stock, ours = build(name), build(name)
    total = sum(loss for loss in losses_of(stock).values())
    total.backward()
    loss = Weave(ours)(losses_of(ours))
    loss.backward()
    assert torch.equal(loss, total)
    theirs, found = _gradients(stock), _gradients(ours)
    assert theirs.keys() == found.keys() and len(theirs) > 8
    assert all(torch.equal(found[key], theirs[key]) for key in theirs)


@pytest.mark.parametrize("name", LOSSES)
def test_the_names_are_known(name: str) -> None:
    model = build(name)
    said: list[str] = []
    weave = Weave(model, "Max", terms="head", log=said.append)
    weave(losses_of(model)).backward()
    assert weave.combination.names == tuple(LOSSES[name])
    assert said == ["terms: " + "; ".join(f"{t} = {loss}" for t, loss in LOSSES[name].items())]


@pytest.mark.parametrize("boundary", ["parameters", "features"])
@pytest.mark.parametrize("combiner", ["PCGrad", "UPGrad"])
@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_combined(name: str, combiner: str, boundary: str) -> None:
    model = build(name)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    weave = Weave(model, {"type": combiner, "boundary": boundary})
    before = {key: value.clone() for key, value in model.state_dict().items()}
    for update in range(2):
        weave(losses_of(model, update)).backward()
        found = _gradients(model)
        assert len(found) > 8 and all(grad.isfinite().all() for grad in found.values())
        optimizer.step()
        optimizer.zero_grad()
        weave.step()
    logged = weave.logged()
    assert {"weight_cls", "weight_loc"} <= set(logged)
    moved = [key for key, value in model.state_dict().items() if (value != before[key]).any()]
    assert any("backbone" in key for key in moved) and len(moved) >= 6


@pytest.mark.parametrize("name", LOSSES)
def test_weights_that_are_learned_move(name: str) -> None:
    model = build(name)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    weave = Weave(model, {"type": "UncertaintyWeighting", "lr": 0.1})
    for update in range(3):
        weave(losses_of(model, update)).backward()
        optimizer.step()
        optimizer.zero_grad()
        weave.step()
    logged = weave.logged()
    assert logged["weight_cls"] != 1 and logged["weight_loc"] != 1
