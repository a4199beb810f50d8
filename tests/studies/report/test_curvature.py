"""Curvature of circles, and the corner of curves whose corner is known."""

import numpy as np
import pytest

from lossweave.studies.report.curvature import corner_of, curvatures


@pytest.mark.parametrize("radius", [0.5, 3.0])
def test_a_circle_has_one_over_its_radius_everywhere(radius: float) -> None:
    angles = np.array([0.0, 0.3, 0.4, 1.2, 1.3])
    found = curvatures(radius * np.cos(angles), radius * np.sin(angles))
    assert found == pytest.approx([1 / radius] * 3)
    assert curvatures(radius * np.cos(-angles), radius * np.sin(-angles)) == pytest.approx(-found)


def test_the_corner_is_where_the_curve_turns_most() -> None:
    # Ridge regression of a strong direction, a weak one that is noise, and noise that nothing fits.
    lambdas = np.logspace(-8, 0, 17)
    strong, weak = 10 / (1 + lambdas), 1e-4 / (1e-6 + lambdas)
    size = strong**2 + weak**2
    data = (lambdas * strong) ** 2 + (1e3 * lambdas * weak) ** 2 + 0.01
    place = corner_of(size, data)
    assert place is not None and 1e-6 < lambdas[place] < 1e-1


def test_points_that_hardly_move_make_no_corner() -> None:
    across = [100, 99.9, 100.1, 99.8, 10, 1, 0.98]
    up = [1.0, 1.001, 1.0, 1.002, 1.02, 1.2, 60.0]
    assert corner_of(across, up) == 5


def test_a_straight_line_has_no_corner_nor_have_two_points() -> None:
    assert corner_of([1000, 100, 10, 1], [1, 1.1, 1.21, 1.331]) is None
    assert corner_of([10, 1], [1, 10]) is None
    assert corner_of([10, float("nan"), 1], [1, 2, 10]) is None
    # The other way round: along the side and then up is a turn to the left.
    assert corner_of([100, 95, 90, 1], [1, 100, 1000, 1100]) is None
