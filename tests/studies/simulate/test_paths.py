"""Trajectories, against plain torch."""

import math

import pytest
import torch

from lossweave.studies.simulate.paths import FAR, OPTIMIZERS, factors_of, path
from lossweave.studies.simulate.problems import problem

PAIR = problem("least-squares")


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
def test_sum_is_a_plain_training_of_the_sum(optimizer, scale):
    way = path("Sum", PAIR, scale, optimizer, (5.0, 6.0), steps=25)
    theta = torch.tensor([5.0, 6.0], dtype=torch.float64)
    kind = torch.optim.SGD if optimizer == "descent" else torch.optim.Adam
    stepper = kind([theta], lr=OPTIMIZERS[optimizer])
    for _ in range(25):
        a, b = factors_of(scale)
        g1, g2 = (torch.tensor(g, dtype=torch.float64) for g in PAIR.at(*theta.tolist()).gradients)
        theta.grad = a * g1 + b * g2
        stepper.step()
    assert way.points[-1] == pytest.approx(theta.tolist(), abs=1e-9)
    assert way.points[0] == (5.0, 6.0)
    assert way.updates == 25
    assert way.losses[-1] == pytest.approx(PAIR.at(*theta.tolist()).values)


def test_square_explodes_under_descent():
    way = path("SquaredSum", PAIR, 1.0, "descent", (5.0, 6.0), steps=50)
    assert way.exploded
    assert way.updates < 50
    assert math.dist(way.points[0], way.points[-1]) > FAR * PAIR.front.length


def test_square_does_not_explode_under_adam():
    assert not path("SquaredSum", PAIR, 1.0, "Adam", (5.0, 6.0), steps=50).exploded


def test_numbers_that_are_not_finite_are_an_explosion():
    way = path("SquaredSum", PAIR, 1.0, "descent", (1e200, 1e200), 50)
    assert way.exploded
    assert all(math.isfinite(x) for point in way.points for x in point)


def test_what_stands_still_is_not_run_on():
    way = path("Sum", PAIR, 1.0, "descent", (5.0, 6.0), steps=5000)
    assert way.updates < 500
    assert way.late == 0


def test_kept_points_are_apart_and_hold_both_ends():
    way = path("Sum", problem("toy"), 1.0, "Adam", (-8.5, -5.0), steps=100)
    assert len(way.points) < 101
    gaps = [math.dist(a, b) for a, b in zip(way.points, way.points[1:], strict=False)]
    assert min(gaps[:-1]) > 0.01 * problem("toy").front.length


def test_factors_keep_the_larger_loss():
    for scale in (0.001, 0.2, 1.0, 50.0):
        first, second = factors_of(scale)
        assert max(first, second) == 1
        assert second / first == pytest.approx(scale)
