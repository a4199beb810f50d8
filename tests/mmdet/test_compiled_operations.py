"""Combiners of gradients over deformable convolutions, whose backward is compiled code."""

from typing import Any

import pytest
import torch
from mmcv.ops import DeformConv2d, ModulatedDeformConv2dPack
from torch import Tensor, nn
from torchjd import aggregation
from torchvision.ops import DeformConv2d as TorchvisionDeformConv2d

from lossweave.combination import build_combination
from lossweave.progress import Progress

TERMS = {"cls": "loss_cls", "loc": "loss_bbox"}


class Offset(nn.Module):
    """A deformable convolution whose offsets (and mask) come from a convolution."""

    def __init__(self, kind: type[nn.Module], mask: bool = False) -> None:
        super().__init__()
        self.offset = nn.Conv2d(4, 18, 3, padding=1)
        self.mask = nn.Conv2d(4, 9, 3, padding=1) if mask else None
        self.conv = kind(4, 6, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        inputs = [x, self.offset(x)]
        if self.mask is not None:
            inputs.append(self.mask(x).sigmoid())
        return self.conv(*inputs)


class Packed(nn.Module):
    """MMCV's layer that has its offsets and mask inside."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = ModulatedDeformConv2dPack(4, 6, 3, padding=1)
        nn.init.normal_(self.conv.conv_offset.weight, std=0.2)  # else they are 0

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


LAYERS = {
    "mmcv v1": lambda: Offset(DeformConv2d),
    "mmcv v2": Packed,
    "torchvision v1": lambda: Offset(TorchvisionDeformConv2d),
    "torchvision v2": lambda: Offset(TorchvisionDeformConv2d, mask=True),
}


class Net(nn.Module):
    """Two losses over a deformable layer that they share."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.layer = layer
        self.heads = nn.ModuleList([nn.Conv2d(6, 2, 1), nn.Conv2d(6, 4, 1)])
        self.combination: Any = None

    def losses(self, features: Tensor) -> dict[str, Tensor]:
        cls, loc = (head(torch.tanh(features)) for head in self.heads)
        return {"loss_cls": (cls - 1).square().mean(), "loss_bbox": 3 * (loc + 1).abs().mean()}

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        features = self.layer(torch.relu(self.stem(x)))
        boundary = self.combination.boundary
        with boundary.caught(self):
            if boundary.needs_features:
                features = boundary.features(features)
            return self.losses(features)


def plain(model: Net, x: Tensor, boundary: str, name: str) -> dict[str, Tensor]:
    """One backward per loss, the shared rows flattened, TorchJD's aggregator."""
    below = [p for n, p in model.named_parameters() if not n.startswith("heads")]
    features = model.layer(torch.relu(model.stem(x)))
    cut = features.detach().requires_grad_()
    losses = list(model.losses(features if boundary == "parameters" else cut).values())
    shared = below if boundary == "parameters" else [cut]
    rows = [torch.autograd.grad(loss, shared, retain_graph=True) for loss in losses]
    matrix = torch.stack([torch.cat([g.flatten() for g in row]) for row in rows]).double()
    combined = getattr(aggregation, name)()(matrix).float()
    parts = combined.split([t.numel() for t in shared])
    grads: Any = [part.view_as(t) for part, t in zip(parts, shared, strict=True)]
    if boundary == "features":
        grads = torch.autograd.grad(features, below, grads)
    found = {id(p): grad for p, grad in zip(below, grads, strict=True)}
    for loss, head in zip(losses, model.heads, strict=True):
        own = list(head.parameters())
        own_grads = torch.autograd.grad(loss, own, retain_graph=True)
        found.update({id(p): grad for p, grad in zip(own, own_grads, strict=True)})
    return {n: found[id(p)] for n, p in model.named_parameters()}


@pytest.mark.parametrize("name", ["PCGrad", "MGDA", "UPGrad"])
@pytest.mark.parametrize("boundary", ["parameters", "features"])
@pytest.mark.parametrize("layer", LAYERS)
def test_deformable_convolution(layer: str, boundary: str, name: str) -> None:
    torch.manual_seed(0)
    model = Net(LAYERS[layer]())
    x = torch.randn(2, 3, 9, 9)
    expected = plain(model, x, boundary, name)
    model.combination = build_combination(dict(type=name, boundary=boundary), TERMS)
    model.combination.set_progress(Progress())
    model.combination(model(x), model=model).backward()
    largest = max(grad.abs().max() for grad in expected.values())
    assert largest > 0
    offsets = [n for n in expected if "offset" in n]
    assert offsets and all(expected[n].abs().max() > 0 for n in offsets)
    for key, grad in expected.items():
        found = dict(model.named_parameters())[key].grad
        assert (found - grad).abs().max() < 1e-5 * largest, key
