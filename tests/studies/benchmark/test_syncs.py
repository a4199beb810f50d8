"""Where the host would wait for the device."""

import torch

from lossweave.studies.benchmark.syncs import count_syncs


def test_syncs_in_forward_and_backward() -> None:
    class Reads(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):  # type: ignore[no-untyped-def]
            return x * 2

        @staticmethod
        def backward(ctx, grad):  # type: ignore[no-untyped-def]
            return grad * grad.sum().item()

    x = torch.ones(3, requires_grad=True)
    assert count_syncs(lambda: (x * 2).sum().backward()) == 0
    assert count_syncs(lambda: Reads.apply(x).sum().backward()) == 1
    assert count_syncs(lambda: x.detach()[x > 0]) == 1
    assert count_syncs(lambda: bool(x.sum() > 0)) == 1
