"""Sums and inner products of rows, beside straightforward ones in float64."""

import pytest
import torch

from lossweave.backward._rows import chunks, flat, inner_products, weighted

CPU = torch.device("cpu")


def _units(count: int, dtype: torch.dtype, scale: float = 1.0) -> list[dict[int, torch.Tensor]]:
    """Small and large tensors, in pieces and not, some of them without all terms."""
    draw = torch.Generator().manual_seed(count)
    shapes = [(3,), (2, 5), (300_000,), (7, 11, 13), (1,)]
    units = [
        {k: (scale * torch.randn(shape, generator=draw)).to(dtype) for k in range(count)}
        for shape in shapes
    ]
    del units[1][0], units[3][count - 1]
    units[4] = {0: units[4][0]}
    units[2][1] = units[2][1].view(300, 1000).t()  # not contiguous
    units[2][0] = units[2][0].view(1000, 300)
    for k in range(2, count):
        units[2][k] = units[2][k].view(1000, 300)
    return units


def _expected(units: list[dict[int, torch.Tensor]], count: int) -> torch.Tensor:
    total = torch.zeros(count, count, dtype=torch.float64)
    for unit in units:
        for a, one in unit.items():
            for b, other in unit.items():
                total[a, b] += (one.double() * other.double()).sum()
    return total


@pytest.mark.parametrize("scale", [1e-25, 1e-12, 1.0, 1e15, 1e30])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("count", [2, 4, 5])
def test_inner_products(count: int, dtype: torch.dtype, scale: float) -> None:
    units = _units(count, dtype, scale)
    found = inner_products(units, count, CPU)
    expected = _expected(units, count)
    assert found.dtype == torch.float64
    norms = expected.diagonal().sqrt()
    error = (found - expected).abs() / torch.outer(norms, norms)
    assert error.max() < 1e-6


def test_a_term_without_a_row_and_no_unit_at_all() -> None:
    assert inner_products([], 3, CPU).tolist() == [[0.0] * 3] * 3
    found = inner_products([{1: torch.ones(4)}], 3, CPU)
    assert found.tolist() == [[0, 0, 0], [0, 4, 0], [0, 0, 0]]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_stays_so(value: float) -> None:
    found = inner_products([{0: torch.ones(2), 1: torch.tensor([1.0, value])}], 2, CPU)
    assert found[0, 0] == 2
    assert not found[1, 1].isfinite() and not found[0, 1].isfinite()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("weights", [[1.0, 1.0], [1.0, -2.5], [0.5, 1.0], [0.0, 3.0]])
def test_weighted(weights: list[float], dtype: torch.dtype) -> None:
    rows = [[torch.randn(4, 2).to(dtype), torch.randn(3).to(dtype)] for _ in weights]
    kept = [[row.clone() for row in some] for some in rows]
    found = weighted(rows, weights)
    for i, total in enumerate(found):
        assert total.dtype == torch.promote_types(dtype, torch.float32)
        exact = sum(w * some[i].double() for w, some in zip(weights, kept, strict=True))
        torch.testing.assert_close(total.double(), exact, rtol=1e-5, atol=1e-6)
    for some, before in zip(rows, kept, strict=True):
        for row, old in zip(some, before, strict=True):
            assert torch.equal(row, old)


def test_one_tensor_handed_out_twice_is_not_added_to() -> None:
    once = torch.ones(3)
    found = weighted([[once, once], [once, once]], [1.0, 2.0])
    assert [total.tolist() for total in found] == [[3.0] * 3] * 2
    assert once.tolist() == [1.0] * 3


def test_chunks_hold_as_much_as_they_may() -> None:
    sizes = [1 << 19, 1 << 19, 1, 3 << 20, 2, 3]
    found = list(chunks(sizes, lambda size: size))
    assert found == [[1 << 19, 1 << 19], [1], [3 << 20], [2, 3]]
    assert list(chunks([], lambda size: size)) == []


def test_flat() -> None:
    one = torch.arange(6.0).view(2, 3)
    assert flat([one]).data_ptr() == one.data_ptr()
    assert flat([one.t(), torch.ones(1)]).tolist() == [0, 3, 1, 4, 2, 5, 1]
