"""One model with the same weights through both adapters: the same combined gradient."""

from typing import Any

import pytest
import torch
from detectron2.modeling import Backbone
from helpers.mmdet_support import ALL_COMBINERS, GRADIENT_COMBINERS, combiner_config
from mmengine.model import BaseModel
from torch import Tensor, nn

from lossweave.combination import build_combination
from lossweave.detectron2 import combine_losses
from lossweave.mmdet import combined_class
from lossweave.progress import Progress


class Trunk(Backbone):
    """Two levels, the second made of the first."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        first = self.first(x).tanh()
        return {"p1": first, "p2": self.second(first).tanh()}


class Parts(nn.Module):
    """What both frameworks' models are made of."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.backbone = Trunk()
        self.shared = nn.Conv2d(4, 4, 1)
        self.cls, self.loc = nn.Conv2d(4, 2, 1), nn.Conv2d(4, 1, 1)

    def losses_of(self, levels: Any) -> dict[str, Tensor]:
        above = [self.shared(level).tanh() for level in levels]
        return {
            "loss_cls": sum((self.cls(x) - 1).square().mean() for x in above),
            "loss_box_reg": 3 * sum((self.loc(x) + 0.4).abs().mean() for x in above),
        }


class Theirs(Parts):
    """As Detectron2 has it: a list of dicts goes in, losses come out."""

    def forward(self, batched_inputs: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        images = torch.stack([entry["image"] for entry in batched_inputs])
        return self.losses_of(self.backbone(images).values())


class Ours(BaseModel, Parts):
    """As MMEngine has it: a mode, features by extract_feat, losses summed by parse_losses."""

    def extract_feat(self, inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.backbone(inputs).values())

    def forward(self, inputs: Tensor, mode: str = "loss") -> dict[str, Tensor]:
        return self.losses_of(self.extract_feat(inputs))


def _grads(model: nn.Module, root: Tensor) -> dict[str, Tensor]:
    root.backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def _mmdet(combiner: dict[str, Any], images: Tensor) -> tuple[Tensor, dict[str, Tensor], Any]:
    combination = build_combination(combiner)
    boundary = combination.boundary
    model = combined_class(Ours, boundary is not None and boundary.needs_forward)()
    model.loss_combination = combination
    combination.set_progress(Progress())
    root, _ = model.parse_losses(model(images))
    return root, _grads(model, root), combination


def _detectron2(combiner: dict[str, Any], images: Tensor) -> tuple[Tensor, dict[str, Tensor], Any]:
    model = combine_losses(Theirs(), combiner)
    model.loss_combination.set_progress(Progress())
    found = model([{"image": image} for image in images])
    root = sum(found.values()) if isinstance(found, dict) else found
    return root, _grads(model, root), model.loss_combination


CASES = [
    *((name, None) for name in ALL_COMBINERS if name not in GRADIENT_COMBINERS),
    *((n, b) for n in GRADIENT_COMBINERS for b in ("parameters", "features", "representation")),
]


@pytest.mark.parametrize(("name", "boundary"), CASES, ids=lambda value: str(value or ""))
def test_the_same_gradient(name: str, boundary: str | None) -> None:
    combiner = combiner_config(name, **({"boundary": boundary} if boundary else {}))
    images = torch.rand(2, 3, 9, 9)
    one, grads, left = _mmdet(combiner, images)
    two, others, right = _detectron2(combiner, images)
    assert torch.equal(one, two)
    idle = 2 if name == "Alternating" else 0  # what only an idle term reaches has no gradient
    assert grads.keys() == others.keys() and len(grads) == 10 - idle
    assert all(torch.equal(grads[key], others[key]) for key in grads)
    assert any(g.any() for g in grads.values())
    assert left.logged() == right.logged()


@pytest.mark.parametrize("name", ["Sum", "MGDA", "NashMTL"])
def test_a_preference_means_the_same(name: str) -> None:
    images = torch.rand(2, 3, 9, 9)
    combiner = dict(type=name, prefer=dict(cls=3, loc=1))
    _, grads, left = _mmdet(combiner, images)
    _, others, right = _detectron2(combiner, images)
    assert all(torch.equal(grads[key], others[key]) for key in grads)
    assert left.logged() == right.logged()
    _, plain, _ = _mmdet(combiner_config(name), images)
    assert any(not torch.equal(grads[key], plain[key]) for key in grads)
