"""What the gradient root does with rows on a device: one look at the Gramian, nothing mixed.

Autograd's engine refuses a fake device, so the rows are put in by hand, and what is done with them
is called as a backward calls it.
"""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from helpers.device_guard import CUDA, Guard
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from lossweave.backward import reachability_of
from lossweave.backward._job import Job
from lossweave.backward._rows import inner_products, weighted
from lossweave.utils import distributed

#: A large tensor, a small one, one of half precision.
SHAPES: list[tuple[tuple[int, ...], torch.dtype]] = [
    ((1200, 1000), torch.float32),
    ((3, 4), torch.float32),
    ((5,), torch.float16),
]


class _Method:
    remembers = False

    def __init__(self, count: int, private: str, elementwise: bool) -> None:
        self.count, self.private, self.elementwise = count, private, elementwise
        self.seen: list[Tensor] = []

    def weights_of(self, gramian: Tensor) -> list[float]:
        self.seen.append(gramian)
        return [0.5 + k for k in range(self.count)]

    def mix(self, rows: Sequence[Tensor], key: int) -> Tensor:
        return torch.stack(list(rows)).sum(dim=0)

    def remember(self, shown: Any) -> None:
        raise AssertionError


def _job(count: int, method: _Method) -> Job:
    """Terms that share three parameters, and one parameter that the first alone reaches."""
    shared = [torch.ones(shape, dtype=kind, device=CUDA, requires_grad=True)
              for shape, kind in SHAPES]  # fmt: skip
    own = torch.ones(7, device=CUDA, requires_grad=True)
    terms = [sum((p.float() * (k + 1)).sum() for p in shared) for k in range(count)]
    terms[0] = terms[0] + own.sum()
    return Job(terms, reachability_of(terms, []), [*shared, own], method, [])


def _fill(job: Job) -> None:
    """The rows that a backward would have taken."""
    for i, leaf in enumerate(job.tensors):
        for k in range(job.count if leaf.numel() != 7 else 1):
            job.rows[i][k] = torch.ones_like(leaf).detach()


@pytest.mark.parametrize("elementwise", [False, True])
@pytest.mark.parametrize("private", ["plain", "weighted"])
@pytest.mark.parametrize("count", [2, 6])
def test_the_gramian_is_the_one_thing_that_is_read(
    count: int, private: str, elementwise: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = _Method(count, private, elementwise)
    with FakeTensorMode():
        job = _job(count, method)
        _fill(job)
        monkeypatch.setattr(Job, "_differentiate", lambda *_: False)
        scale = torch.ones((), device=CUDA)
        with torch.no_grad(), Guard(reads=1) as guard:
            results = job.run(scale)
        assert guard.read == 1 and guard.sent == []
        (gramian,) = method.seen
        assert gramian.shape == (count, count) and gramian.dtype is torch.float64
        assert gramian.device.type == "cpu"
        for leaf, found in zip(job.tensors, results, strict=True):
            assert found is not None
            assert (found.device, found.shape, found.dtype) == (CUDA, leaf.shape, leaf.dtype)


@pytest.mark.parametrize("elementwise", [False, True])
def test_the_mean_over_ranks_stays_on_the_device(
    elementwise: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the ranks share is agreed on by one exchange, which is read, too."""
    sent: list[torch.device] = []

    def exchange(tensor: Tensor) -> Tensor:
        sent.append(tensor.device)
        return tensor

    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    monkeypatch.setattr(distributed, "sum_", exchange)
    monkeypatch.setattr(distributed, "average_", exchange)
    with FakeTensorMode():
        job = _job(3, _Method(3, "plain", elementwise))
        _fill(job)
        shared = [i for i, leaf in enumerate(job.tensors) if leaf.numel() != 7]
        shares = dict.fromkeys(shared, 1.0)
        monkeypatch.setattr(Job, "_differentiate", lambda *_: False)
        monkeypatch.setattr(Job, "_agree", lambda *_: (shared, shares, False))
        with torch.no_grad(), Guard(reads=1) as guard:
            results = job.run(torch.ones((), device=CUDA))
        assert guard.read == 1 and guard.sent == []
    assert sent and all(device.type == "cuda" for device in sent)
    assert all(found is not None and found.device == CUDA for found in results)


def test_sums_and_products_stay_where_the_rows_are() -> None:
    with FakeTensorMode(), torch.no_grad():
        rows = [[torch.ones(3, device=CUDA), torch.ones(2, 2, device=CUDA)] for _ in range(2)]
        with Guard() as guard:
            totals = weighted(rows, [2.0, 3.0])
            units = [dict(enumerate(some)) for some in zip(*rows, strict=True)]
            products = inner_products(units, 2, CUDA)
        assert guard.sent == []
        assert all(total.device == CUDA for total in totals) and products.device == CUDA
