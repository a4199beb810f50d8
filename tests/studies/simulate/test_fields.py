"""Weights over the plane of two losses, against formulas."""

import math

import pytest

from lossweave.combiners import combiner_names
from lossweave.studies.simulate.fields import ANGLE, field, moves, settled, weights_at

COSINE = math.cos(math.radians(ANGLE))


def mgda(a: float, b: float) -> tuple[float, float]:
    """The shortest vector between two gradients of these norms."""
    inner = a * b * COSINE
    first = min(max((b * b - inner) / (a * a + b * b - 2 * inner), 0.0), 1.0)
    return first, 1 - first


FORMULAS = {
    "Sum": lambda a, b: (1.0, 1.0),
    "Convex": lambda a, b: (0.5, 0.5),
    "SquaredSum": lambda a, b: (2 * (a + b), 2 * (a + b)),
    "Product": lambda a, b: (b, a),
    "GeometricMean": lambda a, b: (math.sqrt(b / a) / 2, math.sqrt(a / b) / 2),
    "LpNorm": lambda a, b: (a / math.hypot(a, b), b / math.hypot(a, b)),
    "Max": lambda a, b: (1.0, 0.0) if a > b else (0.0, 1.0),
    "Min": lambda a, b: (1.0, 0.0) if a < b else (0.0, 1.0),
    "SelfNormalized": lambda a, b: (1 / (a + 1e-6), 1 / (b + 1e-6)),
    "RatioAligned": lambda a, b: (1.0, a / b),
    "MGDA": mgda,
    "IMTLG": lambda a, b: (b / (a + b), a / (a + b)),
    "PCGrad": lambda a, b: (1 - COSINE * b / a, 1 - COSINE * a / b),
}


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("losses", [(0.001, 1.0), (2.0, 3.0), (1000.0, 0.1)])
def test_weights_follow_the_formula(name, losses):
    point = weights_at(name, *losses, updates=1)[0]
    assert (point.first, point.second) == pytest.approx(FORMULAS[name](*losses), rel=1e-3, abs=1e-6)
    x, y = point.first * losses[0], point.second * losses[1]
    assert point.size == pytest.approx(math.sqrt(x * x + y * y + 2 * COSINE * x * y), rel=1e-6)


def test_plane_has_the_first_loss_across_and_the_second_up():
    plane = field("Product", updates=1, exponents=(-1.0, 0.0, 2.0))
    assert plane.points[0][2].first == pytest.approx(0.1)  # L1 = 100, L2 = 0.1
    assert plane.points[0][2].second == pytest.approx(100.0)
    assert (plane.moves, plane.updates) == (False, 1)


@pytest.mark.parametrize("name", ["Sum", "Product", "MGDA", "DWA"])
def test_weights_that_stand_still(name):
    assert not moves(name)


@pytest.mark.parametrize("name", ["UncertaintyWeighting", "Alternating", "RandomWeighting"])
def test_weights_that_move(name):
    assert moves(name)


def test_what_takes_turns_is_read_as_a_mean():
    point = settled("Alternating", 1.0, 1.0, updates=40)
    assert (point.first, point.second) == pytest.approx((0.5, 0.5))


def test_what_learns_is_read_at_the_end():
    point = settled({"type": "UncertaintyWeighting", "lr": 0.2}, 4.0, 0.5, updates=400)
    assert (point.first, point.second) == pytest.approx((0.5 / 4, 0.5 / 0.5), rel=0.02)


@pytest.mark.parametrize("name", combiner_names())
def test_every_registered_combiner_has_weights(name):
    point = weights_at(name, 0.5, 3.0, updates=2)[-1]
    assert all(map(math.isfinite, (point.first, point.second, point.size)))
    assert point.size > 0
