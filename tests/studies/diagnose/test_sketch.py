"""Sketches of gradients, and what they say of the mean."""

import pytest
import torch

from lossweave.studies.diagnose.sketch import Sketches, means_of, sketch


def test_a_sketch_keeps_inner_products() -> None:
    torch.manual_seed(0)
    a, b = torch.randn(2, 100_000)
    b = a + b
    for size, off in ((1 << 17, 1e-5), (1 << 13, 0.05)):
        kept = float(sketch(a, size) @ sketch(b, size))
        assert kept == pytest.approx(float(a @ b), rel=off)
        assert sketch(a, size).shape == (size,)


def test_signal_and_noise_are_told_apart() -> None:
    """A mean of length 1 in noise of length 4: 1/17 of a batch's squared length is signal."""
    generator = torch.Generator().manual_seed(0)
    direction = torch.eye(1000)[0]
    found = Sketches()
    for _ in range(40):
        noise = [4 * torch.randn(1000, generator=generator) / 1000**0.5 for _ in range(2)]
        rows = torch.stack([direction + noise[0], noise[1]])
        found.add(list(rows), (rows @ rows.T).tolist())
    means = found.means(2)
    assert means.count == 40 and means.own[0][0] == pytest.approx(17, rel=0.05)
    assert means.inner[0][0] == pytest.approx(1, abs=0.2)
    assert means.inner[0][0] > 5 * means.error[0][0]
    assert abs(means.inner[1][1]) < 2 * means.error[1][1]


def test_the_error_is_that_of_repetitions() -> None:
    """What the jackknife says is about what many repetitions spread by."""
    generator = torch.Generator().manual_seed(0)
    found, errors = [], []
    for _ in range(60):
        rows = torch.randn(12, 30, generator=generator, dtype=torch.float64) + 0.2
        means = means_of((rows @ rows.T)[None, None], [[1.0]])
        found.append(means.inner[0][0])
        errors.append(means.error[0][0])
    spread = float(torch.tensor(found).std())
    assert sum(errors) / len(errors) == pytest.approx(spread, rel=0.3)


def test_many_batches_are_kept_in_bounds() -> None:
    found = Sketches()
    for i in range(100):
        found.add([torch.tensor([float(i)])], [[float(i) ** 2]])
    means = found.means(1)
    assert found.seen == 100 and means.count == 64
    assert means.inner[0][0] == pytest.approx(49.5**2, rel=0.2)
