"""Graphs that are good for one ordinary backward are refused in one line, or lie below."""

import pytest
import torch
from torch import Tensor, nn

from lossweave.backward import Boundary, gradient_root, reachability_of
from lossweave.errors import LossweaveError


class Mean:
    private, elementwise, remembers = "plain", False, False

    def weights_of(self, gramian: Tensor) -> list[float]:
        return [1.0] * len(gramian)


class FreesItself(torch.autograd.Function):
    """Lets go of what it kept in its first backward, as hand-written ones do."""

    @staticmethod
    def forward(ctx, x):
        ctx.kept = 2 * x
        return x.square()

    @staticmethod
    def backward(ctx, grad):
        kept, ctx.kept = ctx.kept, None
        return grad * kept


class Donates(torch.autograd.Function):
    """Says what a backward says that reuses the memory of what it saved."""

    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, grad):
        raise RuntimeError(
            "This backward function was compiled with non-empty donated buffers which requires "
            "create_graph=False and retain_graph=False."
        )


class Net(nn.Module):
    def __init__(self, boundary: Boundary, layer: nn.Module) -> None:
        super().__init__()
        self.boundary, self.layer = boundary, layer
        self.heads = nn.ModuleList([nn.Linear(4, 1) for _ in range(2)])

    def forward(self, x: Tensor) -> list[Tensor]:
        features = self.boundary.features(self.layer(x))
        return [head(features).square().mean() for head in self.heads]


def _backward(where: str, layer: nn.Module) -> Net:
    boundary = Boundary(where)
    model = Net(boundary, layer)
    with boundary.caught(model):
        terms = model(torch.randn(5, 3))
    reachability = reachability_of(terms, boundary.take(terms))
    gradient_root(torch.zeros(()), terms, reachability, reachability.leaves, Mean()).backward()
    return model


class Applied(nn.Module):
    def __init__(self, function: type[torch.autograd.Function]) -> None:
        super().__init__()
        self.layer, self.function = nn.Linear(3, 4), function

    def forward(self, x: Tensor) -> Tensor:
        return self.function.apply(self.layer(x))


@pytest.mark.parametrize("function", [FreesItself, Donates])
def test_a_function_that_frees_what_it_saved_is_explained_in_one_line(function: type) -> None:
    with pytest.raises(LossweaveError, match=r"once per term .* boundary='features'") as caught:
        _backward("parameters", Applied(function))
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is not None


def test_below_the_features_it_works() -> None:
    model = _backward("features", Applied(FreesItself))
    assert all(p.grad is not None for p in model.parameters())


def test_a_compiled_backbone() -> None:
    layer = nn.Sequential(nn.Linear(3, 4), nn.Tanh())
    compiled = torch.compile(layer, backend="aot_eager")  # donates buffers as inductor does
    try:
        _backward("parameters", compiled)
    except LossweaveError as error:
        assert "boundary='features'" in str(error) and "\n" not in str(error)
    else:
        assert layer[0].weight.grad is not None
    layer.zero_grad()
    _backward("features", compiled)
    assert layer[0].weight.grad is not None


class Fails(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, grad):
        raise ValueError("a fault of its own")


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(ValueError, match="a fault of its own"):
        _backward("parameters", Applied(Fails))
    x = torch.ones(2, requires_grad=True)
    terms = [x.sum(), (0 * x).sqrt().sum() * 0]
    with torch.autograd.detect_anomaly(check_nan=True), pytest.raises(RuntimeError, match="nan"):
        reachability = reachability_of(terms, [])
        gradient_root(torch.zeros(()), terms, reachability, [x], Mean()).backward()
