"""Peaks are those of live bytes."""

import torch

from lossweave.studies.benchmark.memory import peak_bytes


def test_peaks_are_those_of_live_bytes() -> None:
    mega = 2**18  # elements, so MiB

    def call() -> None:
        one = torch.ones(4 * mega)
        two = one + 1  # 8 MiB
        del one
        three = two + 1  # 8 MiB again
        del two, three
        torch.ones(2 * mega)

    call()
    assert 8 * 2**20 <= peak_bytes(call) < 8.1 * 2**20
