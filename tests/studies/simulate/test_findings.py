"""What is found in constructed cases has the right value and the right word."""

import math

import pytest

from lossweave.studies.simulate.fields import Field, Point, field
from lossweave.studies.simulate.findings import (
    Outcome,
    answer,
    outcome,
    powers,
    silent,
    verdict,
    words_of,
)
from lossweave.studies.simulate.paths import Path, path
from lossweave.studies.simulate.problems import problem

PAIR = problem("least-squares")
TOY = problem("toy")


def ended(combiner, losses, optimizer, start, steps=250, scale=1.0):
    way = path(combiner, losses, scale, optimizer, losses.starts[start], steps)
    return outcome(way, losses, optimizer, scale, start)


def test_sum_reaches_the_middle_of_the_toys_front():
    found = ended("Sum", TOY, "descent", 1)
    assert found.result == "reached"
    assert found.position == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(("scale", "end"), [(0.001, 0.0), (1000.0, 1.0)])
def test_sum_of_losses_far_apart_trains_the_larger_one_alone(scale, end):
    found = ended("Sum", PAIR, "descent", 1, scale=scale)
    assert (found.result, found.position) == ("reached", pytest.approx(end, abs=0.01))


def test_square_explodes():
    assert ended("SquaredSum", PAIR, "descent", 1).result == "exploded"
    assert ended("SquaredSum", TOY, "descent", 0).result == "exploded"


def test_product_stops_at_an_end_once_one_loss_is_zero():
    found = ended("Product", PAIR, "descent", 0)
    assert found.result == "reached"
    assert min(found.position, 1 - found.position) < 0.01  # the other loss was left as it was


@pytest.mark.parametrize("start", range(3))
def test_mgda_reaches_a_pareto_stationary_point(start):
    found = ended("MGDA", PAIR, "descent", start)
    assert found.result == "reached"
    way = path("MGDA", PAIR, 1.0, "descent", PAIR.starts[start], 250)
    (a, b), (c, d) = PAIR.at(*way.points[-1]).gradients
    # Parallel and opposed, or one of them 0: nothing improves both.
    sine = abs(a * d - b * c)
    assert sine < 1e-3 or math.hypot(a, b) < 1e-3 or math.hypot(c, d) < 1e-3


def test_mgda_stalls_where_the_losses_are_far_apart():
    found = ended("MGDA", TOY, "descent", 0, scale=0.001)
    assert found.result == "stalled"
    assert found.gap > 0.5


def constructed(end, late=0.0, exploded=False):
    return Path((TOY.starts[1], end), (TOY.at(*TOY.starts[1]).values, TOY.at(*end).values), 9,
                exploded, late)  # fmt: skip


@pytest.mark.parametrize(
    ("way", "result"),
    [
        (constructed((0.0, -8.355)), "reached"),
        (constructed((0.0, -8.355), late=5.0), "reached"),
        (constructed((-8.0, 3.0)), "stalled"),
        (constructed((-8.0, 3.0), late=0.5), "moving"),
        (constructed((-8.0, 3.0), exploded=True), "exploded"),
    ],
)
def test_results_by_the_stated_thresholds(way, result):
    assert outcome(way, TOY, "Adam", 1.0, 1).result == result


POWERS = {  # of the step, of the part, what is left
    "Sum": (1, 1, 1),
    "SquaredSum": (2, 1, 0.5005),
    "Product": (2, 0, 0.001),
    "GeometricMean": (1, 0, math.sqrt(0.001)),
    "SelfNormalized": (0, 0, 1),
    "LpNorm": (1, 2, math.sqrt(2) / math.hypot(1, 0.001)),
    "Max": (1, math.inf, 1),
    "Min": (1, -math.inf, 0),
}


@pytest.mark.parametrize("name", POWERS)
def test_powers(name):
    found = powers(name, 1)
    for value, expected in zip(found[:2], POWERS[name][:2], strict=True):
        assert value == pytest.approx(expected, abs=1e-3)
    # Of equal losses Max and Min take the first, so that the second has no weight to keep.
    assert found[2] == pytest.approx(POWERS[name][2], rel=1e-2) or name in ("Max", "Min")


def made(result, scale=1.0, position=0.5, optimizer="Adam"):
    return Outcome("toy", optimizer, scale, 0, result, 0.0, position, 5)


def test_words_say_what_the_numbers_say():
    ends = [made("exploded", 10.0, optimizer="descent"), made("reached")]
    said = verdict(2.0, 1.0, 0.5, None, ends)
    assert "the square of the losses' common scale, so it explodes" in said
    assert "the larger one rules" in said
    assert "dies" not in said
    assert "With plain descent 0 of 1 trainings reached the Pareto set (1 exploded" in said
    assert "(1 exploded at ratio 10)" in said
    assert "with Adam 1 of 1 trainings reached the Pareto set" in said
    assert "0.50 at 1; 0 of 1 at an end" in said


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ((0.0, 0.0, 1.0), "does not depend on the losses' common scale"),
        ((3.0, 0.0, 1.0), "the 3.0th power"),
        ((-1.0, 0.0, 1.0), "shrinks where the losses grow"),
        ((0.5, 0.0, 1.0), "the power 0.5"),
        ((1.0, -math.inf, 0.0), "The smaller loss has the gradient to itself"),
        ((1.0, -math.inf, 0.0), "It dies: a loss near 0 takes the other one's gradient away, and "
                                "nothing of its weight is left"),
        ((1.0, math.inf, 1.0), "The larger loss has the gradient to itself"),
        ((1.0, -0.5, 1.0), "The smaller loss has the larger part in the gradient, by less than"),
        ((1.0, 2.0, 1.0), "The larger loss has the larger part in the gradient, more than"),
        ((1.0, 0.0, 0.004), "0.4 % of its weight is left"),
    ],
)
def test_every_number_has_its_words(numbers, words):
    assert words in verdict(*numbers, None, [])


def test_ends_are_told():
    ends = [made("reached", 0.001, 0.01), made("reached", 1000.0, 0.99)]
    said = verdict(1.0, 1.0, 1.0, None, ends)
    assert "0.01 at 0.001, 0.99 at 1000; 2 of 2 at an end" in said


def test_an_answer_is_plain_data():
    plane = field("Min", 1, exponents=(0.0, 1.0))
    found = answer("Min", 1, plane, [made("exploded")]).as_data()
    assert found["silent"] is None
    assert found["share_power"] == "-inf"
    assert found["outcomes"][0]["result"] == "exploded"
    assert not found["moves"]
    assert words_of(found, 1).startswith("The step grows in proportion")


def test_what_moves_and_what_fails_is_told():
    found = answer("Sum", 1, field("Sum", 1, exponents=(0.0, 1.0)), [made("reached")]).as_data()
    said = words_of({**found, "moves": True, "failed": True}, 7)
    assert said.startswith("Its weights move while the losses stand still")
    assert "after 7 updates" in said
    assert said.endswith("Its solver fails in places; equal weights are used there.")


def test_where_there_is_no_step():
    step, none = Point(1.0, 1.0, 1.0), Point(0.0, 0.0, 0.0)
    plane = Field((-1.0, 0.0, 1.0), ((step, step, none), (step,) * 3, (step,) * 3), False, 1)
    assert silent(plane) == 100.0
    assert "no step at all where the losses are 100 times apart" in verdict(1, 1, 1, 100.0, [])
    assert silent(field("MGDA", 1, exponents=(-3.0, 0.0, 3.0))) is None
