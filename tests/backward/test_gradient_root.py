"""The gradient root by itself: weights, private tensors, release of the graph."""

import gc
import weakref
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from lossweave.backward import gradient_root, reachability_of


class Fixed:
    """Given weights; remembers the Gramian."""

    elementwise = remembers = False

    def __init__(self, *weights: float, private: str = "plain") -> None:
        self.weights, self.private = list(weights), private
        self.gramian = torch.zeros(0)

    def weights_of(self, gramian: Tensor) -> list[float]:
        self.gramian = gramian
        return self.weights

    def mix(self, rows: Sequence[Tensor], key: int) -> Tensor:
        raise AssertionError("not asked for")


def _leaves(count: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(3, generator=generator).requires_grad_() for _ in range(count)]


def _root(
    terms: list[Tensor | None], leaves: list[Tensor], method: Fixed, others: Sequence[Tensor] = ()
) -> Tensor:
    reachability = reachability_of(terms, [])
    return gradient_root(torch.tensor(5.0), terms, reachability, leaves, method, others)


@pytest.mark.parametrize("private", ["plain", "weighted"])
@pytest.mark.parametrize("scale", [1.0, 1024.0])
def test_shared_weighted_and_private_as_asked(private: str, scale: float) -> None:
    shared, one, two = _leaves(3)
    terms = [(shared * one).sum(), (shared * two).square().sum()]
    method = Fixed(2.0, -0.5, private=private)
    root = _root(list(terms), [shared, one, two], method)
    g1 = torch.autograd.grad(terms[0], [shared, one], retain_graph=True)
    g2 = torch.autograd.grad(terms[1], [shared, two], retain_graph=True)
    assert root == 5
    (scale * root).backward()
    assert shared.grad is not None and one.grad is not None and two.grad is not None
    torch.testing.assert_close(shared.grad, scale * (2 * g1[0] - 0.5 * g2[0]))
    w1, w2 = (2.0, -0.5) if private == "weighted" else (1.0, 1.0)
    torch.testing.assert_close(one.grad, scale * w1 * g1[1])
    torch.testing.assert_close(two.grad, scale * w2 * g2[1])
    rows = torch.stack([g1[0], g2[0]]).double()
    torch.testing.assert_close(method.gramian, rows @ rows.T, rtol=1e-6, atol=1e-9)


def test_an_absent_term_has_a_zero_row() -> None:
    shared, one = _leaves(2)
    method = Fixed(1.0, 1.0, 1.0)
    _root([(shared * one).sum(), None, (shared * 2).sum()], [shared, one], method).backward()
    assert method.gramian[1].abs().sum() == 0 and method.gramian[0, 0] > 0


def test_the_graph_goes_with_the_last_pass_unless_it_is_kept() -> None:
    (x,) = _leaves(1)
    for retain in (False, True):
        held = x.exp()
        terms: list[Tensor | None] = [held.sum(), (2 * held).sum()]
        others = [(3 * held).sum()] if retain else []
        root = _root(terms, [x], Fixed(1.0, 1.0), others)
        root.backward(retain_graph=True)
        last = terms[1]
        assert last is not None
        if retain:
            last.backward()
        else:
            with pytest.raises(RuntimeError, match="second time"):
                last.backward()
        with pytest.raises(RuntimeError, match="released by the first backward"):
            root.backward()


def test_nothing_is_held_after_backward() -> None:
    (x,) = _leaves(1)
    middle = x.exp()
    gone = weakref.ref(middle)
    terms: list[Tensor | None] = [middle.sum(), (2 * middle).sum()]
    root = _root(terms, [x], Fixed(1.0, 1.0))
    root.backward()
    del middle, terms
    gc.collect()
    assert gone() is None


def test_two_backwards_accumulate() -> None:
    (x,) = _leaves(1)
    for _ in range(2):
        (_root([(3 * x).sum(), (5 * x).sum()], [x], Fixed(1.0, 0.5)) / 2).backward()
    torch.testing.assert_close(x.grad, torch.full((3,), 5.5))


def test_large_tensors_piece_by_piece() -> None:
    x = torch.randn((1 << 21) + 7).requires_grad_()
    y = torch.randn_like(x)
    method = Fixed(1.0, 1.0)
    _root([(x * y).sum(), x.sum()], [x], method).backward()
    norms = (y.double().norm() * len(y) ** 0.5).item()
    torch.testing.assert_close(method.gramian[0, 1], y.double().sum(), rtol=0, atol=1e-8 * norms)
    torch.testing.assert_close(x.grad, y + 1)


@pytest.mark.parametrize("size", [1e-30, 1e25])
def test_squares_beyond_the_range_of_float32(size: float) -> None:
    x = torch.randn(100).requires_grad_()
    y = size * torch.randn(100)
    method = Fixed(1.0, 1.0)
    _root([(x * y).sum(), (2 * x * y).sum()], [x], method).backward()
    expected = y.double().square().sum() * torch.tensor([[1.0, 2.0], [2.0, 4.0]]).double()
    torch.testing.assert_close(method.gramian, expected, rtol=1e-6, atol=0)
