"""Whatever remembers earlier samples is found before anything is trained."""

import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lossweave.errors import LossweaveError
from lossweave.host.exact_resume import memory_of, refuse_memory, refuse_unknown_sampler


class Plain:
    def __init__(self, parts: Any = ()) -> None:
        self.parts, self.scale = list(parts), 1
        self.parts.append(None)  # made once

    def __call__(self, sample: dict) -> dict:
        sample.update(scale=random.random())
        self.size = sample["scale"]  # written anew for every sample
        return self.helper(sample)

    def helper(self, sample: dict) -> dict:
        return sample

    def reset(self) -> None:
        self.parts.clear()  # called for no sample


class Caching(Plain):
    def helper(self, sample: dict) -> dict:
        self.parts.append(sample)
        return self.parts[0]


class Counting(Plain):
    def transform(self, sample: dict) -> dict:
        self.count += 1
        return sample


class Remembering(Plain):
    def __getitem__(self, index: int) -> Any:
        self.mean = 0.9 * self.mean + index
        return self.mean


class Filling(Plain):
    def __call__(self, sample: dict) -> dict:
        self.table[sample["id"]] = sample
        return sample


class OwnGenerator(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.rng = np.random.RandomState(0)


class Resizing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.size = None

    def forward(self, batch: Any) -> Any:
        self.size = batch.shape if self.size is None else self.size
        return batch


@pytest.mark.parametrize(
    ("kind", "kept"),
    [
        (Plain, ""),
        (Caching, "parts"),
        (Counting, "count"),
        (Remembering, "mean"),
        (Filling, "table"),
        (OwnGenerator, "rng"),
        (Resizing, "size"),
    ],
)
def test_what_is_kept(kind: type, kept: str) -> None:
    assert memory_of(kind()) == kept


def test_it_is_found_wherever_it_is() -> None:
    inside = Plain([Plain([lambda sample: sample, Plain()]), {"not": "looked at"}])
    refuse_memory(inside, None, len, [1, 2], torch.Generator)
    inside.parts[0].parts[1].deep = [Caching()]
    with pytest.raises(LossweaveError, match="Caching keeps `parts` from one sample") as caught:
        refuse_memory(inside)
    assert "\n" not in str(caught.value)


def test_a_thing_that_holds_itself_ends() -> None:
    one = Plain()
    one.parts.append(one)
    refuse_memory(one)


def test_samplers() -> None:
    refuse_unknown_sampler(Plain(), [Plain])
    with pytest.raises(LossweaveError, match=r"sampler Caching, .*it knows Plain"):
        refuse_unknown_sampler(Caching(), [Plain])  # derived, and so of an order of its own
