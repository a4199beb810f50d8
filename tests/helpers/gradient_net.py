"""A toy network whose terms share some parameters and not others."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lossweave.combination import LossCombination

TERMS = ("a", "b", "c", "d")
PATTERNS = {term: f"?loss_{term}" for term in TERMS}


@dataclass(frozen=True)
class Scenario:
    """What one run is like. ``absent`` and ``zero`` are terms on the LAST rank."""

    unused: bool = False
    absent: str = ""
    zero: str = ""
    accumulation: int = 1
    inside: bool = False
    updates: int = 3


class Net(nn.Module):
    """A trunk, two necks (one for a and d, one for b and c) with a head of two outputs each."""

    def __init__(self, combination: LossCombination | None = None, inside: bool = False) -> None:
        super().__init__()
        self.trunk = nn.Linear(4, 6).double()
        self.neck_ad = nn.Linear(6, 5).double()
        self.neck_bc = nn.Linear(6, 5).double()
        self.head_ad = nn.Linear(5, 2).double()
        self.head_bc = nn.Linear(5, 2).double()
        self.head_x = nn.Linear(6, 1).double()
        generator = torch.Generator().manual_seed(0)
        for parameter in self.parameters():
            drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.data = 0.6 * drawn
        self.combination = combination
        self.inside = inside
        self.cutting: tuple[str, ...] = ()  # by the reference
        self.cuts: list[tuple[Tensor, Tensor]] = []

    def losses(self, x: Tensor, absent: str = "", zero: str = "") -> dict[str, Tensor]:
        trunk = self._at("trunk", self.trunk(x))
        features = self._at("features", torch.tanh(trunk))
        if self.combination is not None and self.combination.boundary is not None:
            features = self.combination.boundary.features(features)
        ad = self._at("head", self.head_ad(torch.relu(self.neck_ad(features))))
        bc = self._at("head", self.head_bc(torch.relu(self.neck_bc(features))))
        terms = {
            "a": (ad[:, 0] - 1).square().mean(),
            "b": 5 * (bc[:, 0] + 0.5).square().mean(),
            "c": (bc[:, 1] + bc[:, 0]).abs().mean() + 0.1,
            "d": (ad[:, 1] + ad[:, 0] - 2).square().mean(),
        }
        if zero:
            terms[zero] = terms[zero] * 0
        found = {f"loss_{name}": loss for name, loss in terms.items() if name != absent}
        found["loss_x"] = 0.3 * self.head_x(features).square().mean()  # belongs to no term
        return found

    def forward(self, x: Tensor, absent: str = "", zero: str = "") -> dict[str, Tensor]:
        boundary = None if self.combination is None else self.combination.boundary
        if boundary is None:
            return self.losses(x, absent, zero)
        with boundary.caught(self):
            losses = self.losses(x, absent, zero)
        if self.inside:
            assert self.combination is not None
            return {"loss": self.combination(losses, model=self)}
        return losses

    def _at(self, name: str, tensor: Tensor) -> Tensor:
        if name not in self.cutting:
            return tensor
        leaf = tensor.detach().requires_grad_()
        self.cuts.append((tensor, leaf))
        return leaf


def shard(iteration: int, rank: int) -> Tensor:
    generator = torch.Generator().manual_seed(1000 * iteration + rank)
    return torch.randn(6, 4, generator=generator, dtype=torch.float64)
